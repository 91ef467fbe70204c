package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/limit/shared"
)

// redisConfig says which Redis counts for the rate limits of all replicas.
type redisConfig struct {
	// Address is host:port; "" = there is none.
	Address string
	// Username and PasswordFile are what the process says of itself; "" = nothing,
	// for the password what passwordVariable holds.
	Username, PasswordFile string
	// Database is the number of the database.
	Database int
	// Prefix begins all keys.
	Prefix string
	// Timeout bounds what a request waits.
	Timeout time.Duration
	TLS     struct {
		Enabled bool
		// CAFile has the authorities; "" = the system's. CertFile and KeyFile are
		// of the client's certificate; "" = none.
		CAFile, CertFile, KeyFile string
	}
}

// passwordVariable of the environment has the password at Redis where no file has.
const passwordVariable = "FERRUM_REDIS_PASSWORD"

// validate checks what no single setting can.
func (c *redisConfig) validate() error {
	t := &c.TLS
	switch {
	case c.Timeout == 0:
		return errors.New("redis.timeout is 0: a request could wait for ever")
	case c.Prefix == "":
		return errors.New("redis.prefix is empty: the keys could be those of others")
	case !t.Enabled && (t.CAFile != "" || t.CertFile != "" || t.KeyFile != ""):
		return errors.New("redis.tls.enabled is false, and files for TLS are given: without TLS they protect nothing")
	case (t.CertFile == "") != (t.KeyFile == ""):
		return errors.New("redis.tls.certFile and redis.tls.keyFile go together")
	}
	return nil
}

// connection returns how Redis is reached. Files that cannot be read are errors
// now; those that change later are read again where that can be.
func (c *redisConfig) connection() (shared.Config, error) {
	s := shared.Config{Address: c.Address, Database: c.Database, Timeout: c.Timeout, Prefix: c.Prefix}
	if c.Address == "" {
		return s, nil
	}
	s.Credentials = c.credentials
	if _, _, err := c.credentials(); err != nil {
		return s, err
	}
	if !c.TLS.Enabled {
		return s, nil
	}
	var err error
	s.TLS, err = c.tls()
	return s, err
}

// credentials returns the user and the password.
func (c *redisConfig) credentials() (username, password string, err error) {
	if c.PasswordFile == "" {
		return c.Username, os.Getenv(passwordVariable), nil
	}
	data, err := os.ReadFile(c.PasswordFile)
	if err != nil {
		return "", "", fmt.Errorf("redis.passwordFile: %w", err)
	}
	password = strings.TrimRight(string(data), "\r\n")
	if password == "" {
		return "", "", fmt.Errorf("redis.passwordFile: %s is empty", c.PasswordFile)
	}
	return c.Username, password, nil
}

func (c *redisConfig) tls() (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.TLS.CAFile != "" {
		data, err := os.ReadFile(c.TLS.CAFile)
		if err != nil {
			return nil, fmt.Errorf("redis.tls.caFile: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(data) {
			return nil, fmt.Errorf("redis.tls.caFile: %s has no certificate", c.TLS.CAFile)
		}
	}
	if c.TLS.CertFile != "" {
		load := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			cert, err := tls.LoadX509KeyPair(c.TLS.CertFile, c.TLS.KeyFile)
			return &cert, err
		}
		if _, err := load(nil); err != nil {
			return nil, fmt.Errorf("redis.tls.certFile: %w", err)
		}
		t.GetClientCertificate = load
	}
	return t, nil
}
