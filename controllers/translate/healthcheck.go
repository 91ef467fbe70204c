package translate

import (
	"regexp"
	"strings"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// What an active check has where its stanza says nothing.
var (
	builtInActive = plan.ActiveCheck{
		Interval: 10 * time.Second, Timeout: 5 * time.Second, JitterPercent: 10,
		UnhealthyThreshold: 3, HealthyThreshold: 2,
	}
	builtInExpected = statusSet(200, 399)
)

// readHealth reads the stanza healthCheck. It is one stanza: a nearer one that
// has only active checks brings the built-in passive ones with it.
func readHealth(f *fields, from *v1alpha1.HealthCheck) health {
	h := health{passive: builtInPolicy.Passive}
	if from.Active != nil {
		h.active = readActive(f, from.Active)
	}
	if from.Passive != nil {
		h.passive = readPassive(f, from.Passive)
	}
	h.panicPercent = uint8(f.number("healthCheck.panicThresholdPercent", from.PanicThresholdPercent,
		int32(builtInPolicy.PanicThresholdPercent), 0, 100))
	return h
}

func readActive(f *fields, from *v1alpha1.ActiveCheck) plan.ActiveCheck {
	const at = "healthCheck.active."
	c := builtInActive
	c.Interval = f.duration(at+"interval", from.Interval, c.Interval)
	c.Timeout = f.duration(at+"timeout", from.Timeout, c.Timeout)
	c.JitterPercent = uint8(f.number(at+"jitterPercent", from.JitterPercent, int32(c.JitterPercent), 0, 50))
	c.UnhealthyThreshold = uint16(f.number(at+"unhealthyThreshold", from.UnhealthyThreshold, int32(c.UnhealthyThreshold), 1, 100))
	c.HealthyThreshold = uint16(f.number(at+"healthyThreshold", from.HealthyThreshold, int32(c.HealthyThreshold), 1, 100))
	c.Port = uint16(f.number(at+"port", from.Port, 0, 1, 65535))
	switch {
	case c.Interval < 100*time.Millisecond || c.Interval > time.Hour:
		f.fail(at+"interval: %s is not from 100ms to 1h", c.Interval)
	case c.Timeout <= 0 || c.Timeout >= c.Interval:
		f.fail(at+"timeout: %s is not above 0s and shorter than the interval, %s", c.Timeout, c.Interval)
	}
	switch from.Type {
	case "", v1alpha1.ActiveCheckHTTP:
		c.Type = plan.CheckHTTP
		readHTTPCheck(f, from.HTTP, &c)
	case v1alpha1.ActiveCheckTCP:
		c.Type = plan.CheckTCP
	case v1alpha1.ActiveCheckGRPC:
		c.Type = plan.CheckGRPC
		if from.GRPC != nil {
			c.Service = f.match(at+"grpc.service", from.GRPC.Service, "", isVisible, "a name of visible ASCII characters")
		}
	default:
		f.fail(at+"type %s is not known to this version", quote(string(from.Type)))
	}
	if from.HTTP != nil && c.Type != plan.CheckHTTP {
		f.fail(at + "http is for type HTTP")
	}
	if from.GRPC != nil && c.Type != plan.CheckGRPC {
		f.fail(at + "grpc is for type GRPC")
	}
	return c
}

// readHTTPCheck reads the request of a check; from may be nil.
func readHTTPCheck(f *fields, from *v1alpha1.HTTPCheck, c *plan.ActiveCheck) {
	const at = "healthCheck.active.http."
	c.Path, c.Method, c.Expected = "/", "GET", builtInExpected
	if from == nil {
		return
	}
	c.Path = f.match(at+"path", from.Path, c.Path, isOriginForm, `a path of visible ASCII characters without "#" and with whole escapes`)
	c.Host = f.match(at+"hostname", from.Hostname, "", isExactHostname, "a hostname")
	c.Method = f.match(at+"method", from.Method, c.Method, isCheckMethod, "GET, HEAD or OPTIONS")
	c.Expected = f.statuses(at+"expectedStatuses", from.ExpectedStatuses, c.Expected)
}

func readPassive(f *fields, from *v1alpha1.PassiveCheck) plan.PassiveCheck {
	const at = "healthCheck.passive."
	c := builtInPolicy.Passive
	c.ConsecutiveFailures = uint16(f.number(at+"consecutiveFailures", from.ConsecutiveFailures, int32(c.ConsecutiveFailures), 0, 1000))
	c.Statuses = f.statuses(at+"statuses", from.Statuses, c.Statuses)
	c.BaseEjection = f.duration(at+"baseEjectionTime", from.BaseEjectionTime, c.BaseEjection)
	c.MaxEjection = f.duration(at+"maxEjectionTime", from.MaxEjectionTime, c.MaxEjection)
	c.MaxEjectedPercent = uint8(f.number(at+"maxEjectionPercent", from.MaxEjectionPercent, int32(c.MaxEjectedPercent), 1, 100))
	switch {
	case c.BaseEjection < 100*time.Millisecond:
		f.fail(at+"baseEjectionTime: %s is less than 100ms", c.BaseEjection)
	case c.MaxEjection < c.BaseEjection:
		f.fail(at+"maxEjectionTime: %s is shorter than baseEjectionTime, %s", c.MaxEjection, c.BaseEjection)
	}
	if p := from.FailurePercent; p != nil {
		const at = at + "failurePercent."
		c.FailurePercent = uint8(f.number(at+"threshold", &p.Threshold, 0, 0, 100))
		c.FailureMinRequests = uint32(f.number(at+"minRequests", p.MinRequests, int32(c.FailureMinRequests), 1, 1e6))
		c.FailureWindow = f.duration(at+"window", p.Window, c.FailureWindow)
		if c.FailureWindow < time.Second || c.FailureWindow > 10*time.Minute {
			f.fail(at+"window: %s is not from 1s to 10m", c.FailureWindow)
		}
	}
	return c
}

func isCheckMethod(s string) bool { return s == "GET" || s == "HEAD" || s == "OPTIONS" }

func isExactHostname(s string) bool { return validHostname(s) && !strings.HasPrefix(s, "*") }

// isVisible says that s is of visible ASCII characters (RFC 5234: VCHAR).
func isVisible(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

// brokenEscape is a percent sign that begins no escape, as none that is followed
// by less than two digits does (RFC 3986, 2.1). net/http parses no such path.
var brokenEscape = regexp.MustCompile(`%($|.$|[^0-9a-fA-F]|.[^0-9a-fA-F])`)

func isOriginForm(s string) bool {
	return strings.HasPrefix(s, "/") && isVisible(s) && !strings.Contains(s, "#") && !brokenEscape.MatchString(s)
}
