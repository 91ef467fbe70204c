package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The types below are settings as the command line and the configuration file
// both write them: Set reads the text, String writes it back in the same form,
// Type is the word for it in --help.

type text string

func (v *text) Set(s string) error { *v = text(s); return nil }
func (v *text) String() string     { return string(*v) }
func (v *text) Type() string       { return "string" }

type toggle bool

func (v *toggle) Set(s string) error {
	b, err := strconv.ParseBool(s)
	if err != nil {
		return fmt.Errorf("%q is not true or false", s)
	}
	*v = toggle(b)
	return nil
}
func (v *toggle) String() string { return strconv.FormatBool(bool(*v)) }
func (v *toggle) Type() string   { return "bool" }

type duration time.Duration

func (v *duration) Set(s string) error {
	d, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf(`%q is not a duration such as "5s" or "1m30s"`, s)
	}
	if d < 0 {
		return fmt.Errorf("%q is negative", s)
	}
	*v = duration(d)
	return nil
}
func (v *duration) String() string { return time.Duration(*v).String() }
func (v *duration) Type() string   { return "duration" }

type count int

func (v *count) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return fmt.Errorf("%q is not a whole number of at least 1", s)
	}
	*v = count(n)
	return nil
}
func (v *count) String() string { return strconv.Itoa(int(*v)) }
func (v *count) Type() string   { return "int" }

// limit is a bound on a number; 0 has a meaning of its own.
type limit int

func (v *limit) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return fmt.Errorf("%q is not a whole number of at least 0", s)
	}
	*v = limit(n)
	return nil
}
func (v *limit) String() string { return strconv.Itoa(int(*v)) }
func (v *limit) Type() string   { return "int" }

// cidrs is a list of address ranges: "10.0.0.0/8,2001:db8::1". The first Set
// replaces what is there, those after it add to it, so that a flag can be
// repeated.
type cidrs struct {
	to  *[]netip.Prefix
	set bool
}

// list is a setting that the file may write as a YAML list, too.
type list interface{ setList(items []string) error }

func (v *cidrs) setList(items []string) error { return v.Set(strings.Join(items, ",")) }

func (v *cidrs) Set(s string) error {
	var all []netip.Prefix
	if v.set {
		all = *v.to
	}
	if strings.TrimSpace(s) != "" {
		for item := range strings.SplitSeq(s, ",") {
			p, err := parseCIDR(strings.TrimSpace(item))
			if err != nil {
				return err
			}
			all = append(all, p)
		}
	}
	*v.to, v.set = all, true
	return nil
}

func (v *cidrs) String() string {
	if v.to == nil {
		return ""
	}
	var b strings.Builder
	for i, p := range *v.to {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(p.String())
	}
	return b.String()
}
func (v *cidrs) Type() string { return "cidr,..." }

// parseCIDR parses a range, or an address, which is the range of that one.
func parseCIDR(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		addr, err := netip.ParseAddr(s)
		if err != nil || addr.Zone() != "" {
			return p, fmt.Errorf(`%q is not a range of addresses such as "10.0.0.0/8"`, s)
		}
		p = netip.PrefixFrom(addr, addr.BitLen())
	}
	if p.Addr().Is4In6() {
		return p, fmt.Errorf("%q: write IPv4 addresses as such", s)
	}
	if p != p.Masked() {
		return p, fmt.Errorf("%q is an address inside of %s: which of the two is meant?", s, p.Masked())
	}
	return p, nil
}

// names are sorted names of objects: on the command line and in String separated by
// commas, in the file also a YAML list.
type names struct {
	to    *[]string
	of    string                // what they name, for errors
	check func(string) []string // what is wrong with one
}

func (v *names) Set(s string) error {
	if s == "" {
		*v.to = nil
		return nil
	}
	return v.setList(strings.Split(s, ","))
}

func (v *names) setList(all []string) error {
	for _, s := range all {
		if problems := v.check(s); len(problems) > 0 {
			return fmt.Errorf("%q is not the name of a %s", s, v.of)
		}
	}
	*v.to = slices.Compact(slices.Sorted(slices.Values(all))) // nil for none
	return nil
}
func (v *names) String() string { return strings.Join(*v.to, ",") }
func (v *names) Type() string   { return "name,..." }

// address is a listen address, host:port with an optional host; "" = off.
type address string

func (v *address) Set(s string) error {
	if s != "" {
		if err := checkAddress(s); err != nil {
			return err
		}
	}
	*v = address(s)
	return nil
}

func (v *address) String() string { return string(*v) }
func (v *address) Type() string   { return "host:port" }

func checkAddress(s string) error {
	_, port, err := net.SplitHostPort(s)
	var ae *net.AddrError
	if errors.As(err, &ae) {
		return fmt.Errorf(`%q is not an address such as ":8080": %s`, s, ae.Err)
	}
	if err != nil {
		return err
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q: port %q is not a number from 0 to 65535", s, port)
	}
	return nil
}

// remote is the address of a server, host:port; "" = none.
type remote string

func (v *remote) Set(s string) error {
	if s != "" {
		if err := checkAddress(s); err != nil {
			return err
		}
		if strings.HasPrefix(s, ":") {
			return fmt.Errorf("%q has no host", s)
		}
	}
	*v = remote(s)
	return nil
}

func (v *remote) String() string { return string(*v) }
func (v *remote) Type() string   { return "host:port" }

// choice is one of a few words.
type choice struct {
	to    *string
	words []string
}

func (v *choice) Set(s string) error {
	if !slices.Contains(v.words, s) {
		return fmt.Errorf("%q is not one of %s", s, strings.Join(v.words, ", "))
	}
	*v.to = s
	return nil
}
func (v *choice) String() string { return *v.to }
func (v *choice) Type() string   { return strings.Join(v.words, "|") }

// level is a log level by name.
type level slog.Level

var levelNames = []struct {
	name  string
	level slog.Level
}{
	{"error", slog.LevelError}, {"warn", slog.LevelWarn}, {"info", slog.LevelInfo}, {"debug", slog.LevelDebug},
}

func (v *level) Set(s string) error {
	for _, l := range levelNames {
		if l.name == s {
			*v = level(l.level)
			return nil
		}
	}
	return fmt.Errorf("%q is not one of error, warn, info, debug", s)
}

func (v *level) String() string {
	for _, l := range levelNames {
		if l.level == slog.Level(*v) {
			return l.name
		}
	}
	return slog.Level(*v).String()
}
func (v *level) Type() string { return "error|warn|info|debug" }
