package translate

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// defaultSessionName is the cookie of sessions whose stanza names none.
const defaultSessionName = "ferrum"

// rebalance reads onNoEndpoints.
func rebalance(from v1alpha1.OnNoEndpoints) (bool, error) {
	switch from {
	case "", v1alpha1.OnNoEndpointsReject:
		return false, nil
	case v1alpha1.OnNoEndpointsRebalance:
		return true, nil
	default:
		return false, fmt.Errorf("onNoEndpoints %s is not known to this version", quote(string(from)))
	}
}

// session reads the stanza sessionPersistence of a rule; nil is none.
func session(from *v1alpha1.SessionPersistence, o *v1alpha1.ProxyRoute, ruleName, secret string) (plan.Session, error) {
	if from == nil {
		return plan.Session{}, nil
	}
	if from.Type != "" && from.Type != v1alpha1.SessionPersistenceCookie {
		return plan.Session{}, fmt.Errorf("sessionPersistence type %s is not known to this version", quote(string(from.Type)))
	}
	f := &fields{place: "sessionPersistence."}
	s := plan.Session{
		Cookie:   f.match("sessionName", from.SessionName, defaultSessionName, isToken, "a token (RFC 9110, 5.6.2)"),
		Lifetime: f.duration("absoluteTimeout", from.AbsoluteTimeout, 0),
	}
	if f.problem != "" {
		return plan.Session{}, errors.New(f.problem)
	}
	s.Key = sessionKey(secret, string(o.UID), o.Namespace, o.Name, ruleName)
	return s, nil
}

// sessionKey derives the key that seals the cookies of a rule. All replicas
// come to the same; a client knows neither the route's UID nor the secret, of
// which there is one where routes have no UID. Each part has its length before
// it, so that no two lists of parts are hashed alike.
func sessionKey(parts ...string) (key [32]byte) {
	h := sha256.New()
	h.Write([]byte("ferrum.dev session persistence, version 1\n"))
	for _, p := range parts {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(p))))
		h.Write([]byte(p))
	}
	return [32]byte(h.Sum(key[:0]))
}
