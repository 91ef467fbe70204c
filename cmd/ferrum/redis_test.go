package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// certificate writes a self-signed certificate for localhost, and its key.
func certificate(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"},
		IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return written(t, "tls.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))),
		written(t, "tls.key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
}

// written returns a new file with a content.
func written(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestThePasswordAtRedisIsThatOfTheFileThenOfTheEnvironment(t *testing.T) {
	t.Setenv(passwordVariable, "of the environment")
	c := &redisConfig{Address: "redis:6379", Username: "me"}
	want := func(password string) {
		t.Helper()
		s, err := c.connection()
		if err != nil {
			t.Fatal(err)
		}
		if u, p, err := s.Credentials(); u != "me" || p != password || err != nil {
			t.Errorf("%q, %q, %v; want password %q", u, p, err, password)
		}
	}
	want("of the environment")
	c.PasswordFile = written(t, "password", "of the file\n")
	want("of the file")
	s, err := c.connection()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.PasswordFile, []byte("a new one"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, p, err := s.Credentials(); p != "a new one" || err != nil {
		t.Errorf("after it was changed: %q, %v", p, err)
	}
}

func TestFilesForRedisThatCannotBeUsedEndTheStart(t *testing.T) {
	cert, key := certificate(t)
	tls := func(ca, cert, key string) (c redisConfig) {
		c.TLS.Enabled, c.TLS.CAFile, c.TLS.CertFile, c.TLS.KeyFile = true, ca, cert, key
		return c
	}
	for _, tc := range []struct {
		name string
		c    redisConfig
		want string // in the error; "" = none
	}{
		{"nothing", redisConfig{}, ""},
		{"an authority and a certificate", tls(cert, cert, key), ""},
		{"no password file", redisConfig{PasswordFile: "/none"}, "redis.passwordFile: open /none"},
		{"an empty password", redisConfig{PasswordFile: written(t, "password", "\n")}, "is empty"},
		{"no authorities", tls("/none", "", ""), "redis.tls.caFile: open /none"},
		{"a key for authorities", tls(key, "", ""), "has no certificate"},
		{"a certificate and another's key", tls("", cert, cert), "redis.tls.certFile"},
	} {
		tc.c.Address = "redis:6379"
		_, err := tc.c.connection()
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
	if s, err := (&redisConfig{PasswordFile: "/none"}).connection(); err != nil || s.Credentials != nil {
		t.Errorf("without an address: %v", err)
	}
}
