package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
)

// shownCandidates bounds the list of candidates in text; JSON has them all.
const shownCandidates = 20

// writeExplanation writes e for people: the request as it is matched, the rule
// that takes it and the step that decided, the other candidates with what they
// lacked, the backends and their endpoints, and what the client would get.
func writeExplanation(w io.Writer, q proxy.Query, e proxy.Explanation) error {
	e = plainExplanation(e)
	t := newColumns(w)
	fmt.Fprintf(t, "request\t%s %s\n", plain(q.Method), plain(q.URL))
	if e.Path != "" {
		fmt.Fprintf(t, "matched as\t%s%s\n", e.Host, e.Path)
	}
	writeWinner(t, e)
	writeList(t, "limits", e.Limits)
	writeList(t, "retry", e.Retry)
	fmt.Fprintf(t, "outcome\t%s\n", outcome(e))
	if err := t.Flush(); err != nil {
		return err
	}
	writeCandidates(w, e.Candidates)
	return writeLegs(w, e.Legs)
}

// writeList writes lines of which the first one has the label.
func writeList(w io.Writer, label string, lines []string) {
	for _, l := range lines {
		fmt.Fprintf(w, "%s\t%s\n", label, l)
		label = ""
	}
}

func writeWinner(w io.Writer, e proxy.Explanation) {
	if e.Winner == nil {
		fmt.Fprint(w, "taken by\tno rule\n")
		return
	}
	fmt.Fprintf(w, "taken by\t%s: %s on %s\n", ruleName(*e.Winner), e.Winner.Match, e.Winner.Hostname)
	fmt.Fprintf(w, "decided by\t%s", e.DecidedBy)
	if next := runnerUp(e); next != nil {
		fmt.Fprintf(w, ", before %s: %s on %s", ruleName(*next), next.Match, next.Hostname)
	}
	fmt.Fprintln(w)
}

func ruleName(r proxy.ExplainedRule) string {
	return fmt.Sprintf("%s/%s rule %q", r.Namespace, r.Route, r.Rule)
}

// runnerUp is the best match of another rule than the winner's, nil if there is
// none. It is what the step that decided was about.
func runnerUp(e proxy.Explanation) *proxy.ExplainedRule {
	for i := range e.Candidates {
		c := &e.Candidates[i]
		if c.Matched && (c.Namespace != e.Winner.Namespace || c.Route != e.Winner.Route || c.Rule != e.Winner.Rule) {
			return c
		}
	}
	return nil
}

func outcome(e proxy.Explanation) string {
	s := e.Outcome + ": "
	if e.Status != 0 {
		s += fmt.Sprintf("the proxy answers %d", e.Status)
	} else {
		s += "a backend answers"
	}
	if e.Detail != "" {
		s += " (" + e.Detail + ")"
	}
	return s
}

func writeCandidates(w io.Writer, candidates []proxy.ExplainedRule) {
	if len(candidates) == 0 {
		return
	}
	fmt.Fprint(w, "\ncandidates, best first\n")
	t := newColumns(w)
	for i, c := range candidates {
		if i == shownCandidates {
			fmt.Fprintf(t, "  and %d more; -o json shows all\n", len(candidates)-i)
			break
		}
		verdict := "matches"
		if !c.Matched {
			verdict = c.Failed
		}
		fmt.Fprintf(t, "  %s/%s\t%s\t%s\t%s\t%s\n", c.Namespace, c.Route, c.Rule, c.Hostname, c.Match, verdict)
	}
	t.Flush()
}

func writeLegs(w io.Writer, legs []proxy.ExplainedLeg) error {
	if len(legs) == 0 {
		return nil
	}
	total := uint64(0)
	for _, l := range legs {
		total += uint64(l.Weight)
	}
	fmt.Fprint(w, "\nbackends\n")
	t := newColumns(w)
	for _, l := range legs {
		fmt.Fprintf(t, "  %s/%s:%d\t%s of requests", l.Namespace, l.Service, l.Port, share(l.Weight, total))
		switch {
		case l.Invalid != "":
			fmt.Fprintf(t, "\tdoes not resolve: %s", l.Invalid)
		case len(l.Endpoints) == 0:
			fmt.Fprintf(t, "\t%s, no endpoints", l.Balancer)
		case l.Panic:
			fmt.Fprintf(t, "\t%s, in panic", l.Balancer)
		default:
			fmt.Fprintf(t, "\t%s", l.Balancer)
		}
		fmt.Fprintln(t)
		for _, p := range l.Endpoints {
			fmt.Fprintf(t, "    %s\t%s\t%s\n", p.Address, p.State, capability(p))
		}
	}
	return t.Flush()
}

// share is a leg's part of the requests in percent.
func share(weight uint32, total uint64) string {
	if total == 0 {
		return "0%"
	}
	return fmt.Sprintf("%.4g%%", float64(weight)*100/float64(total))
}

func capability(p proxy.ExplainedEndpoint) string {
	s := "cannot serve"
	if p.Eligible {
		s = fmt.Sprintf("can serve; %d in flight, %d idle connections", p.InFlight, p.Idle)
		if p.Share > 0 && p.Share < 100 {
			s += fmt.Sprintf(", starts slowly: %d%% of its share", p.Share)
		}
	}
	if p.Why != "" {
		s += ": " + p.Why
	}
	if !p.Since.IsZero() {
		s += "; " + p.State + " since " + p.Since.UTC().Format(time.DateTime) + " UTC"
	}
	return s
}

func newColumns(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) }

// plain shows what a terminal would obey, line breaks too, as an escape: the
// objects of a cluster were written by many, and this is read by its operators.
func plain(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if strconv.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}

func plainAll(lines []string) []string {
	lines = slices.Clone(lines)
	for i := range lines {
		lines[i] = plain(lines[i])
	}
	return lines
}

func plainRule(r proxy.ExplainedRule) proxy.ExplainedRule {
	for _, s := range []*string{&r.Namespace, &r.Route, &r.Rule, &r.Hostname, &r.Match, &r.Failed} {
		*s = plain(*s)
	}
	return r
}

// plainExplanation is e with all texts that somebody else wrote made plain.
func plainExplanation(e proxy.Explanation) proxy.Explanation {
	for _, s := range []*string{&e.Host, &e.Path, &e.Outcome, &e.Detail, &e.DecidedBy} {
		*s = plain(*s)
	}
	e.Limits, e.Retry = plainAll(e.Limits), plainAll(e.Retry)
	if e.Winner != nil {
		w := plainRule(*e.Winner)
		e.Winner = &w
	}
	e.Candidates = slices.Clone(e.Candidates)
	for i, c := range e.Candidates {
		e.Candidates[i] = plainRule(c)
	}
	e.Legs = slices.Clone(e.Legs)
	for i := range e.Legs {
		l := &e.Legs[i]
		l.Namespace, l.Service, l.Balancer, l.Invalid = plain(l.Namespace), plain(l.Service), plain(l.Balancer), plain(l.Invalid)
		l.Endpoints = slices.Clone(l.Endpoints)
		for j := range l.Endpoints {
			p := &l.Endpoints[j]
			p.Address, p.State, p.Why, p.Reason = plain(p.Address), plain(p.State), plain(p.Why), plain(p.Reason)
		}
	}
	return e
}
