package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ferrum-proxy/ferrum-proxy/controllers/manifests"
	"github.com/ferrum-proxy/ferrum-proxy/controllers/translate"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
)

// explainFlags are the flags of `ferrum explain`.
type explainFlags struct {
	manifests string
	admin     string
	tokenFile string
	headers   []string
	output    string
}

func newExplainCommand() *cobra.Command {
	f := &explainFlags{output: "text"}
	cmd := &cobra.Command{
		Use:   "explain --manifests DIR|FILE | --admin URL  METHOD URL [-H 'name: value']...",
		Short: "Say which rule takes a request, and why",
		Long: `explain says which rule would take a request, which step of the precedence
decided, what the other candidates lacked, which endpoints could serve it, and
why the others cannot. No request is sent to a backend.

It asks manifest files (--manifests) or a running proxy (--admin). The exit code
is 0 when a rule takes the request, 1 when none does, 2 when it cannot be told.`,
		Example: `  ferrum explain --manifests config/samples GET http://shop.example.com/api
  ferrum explain --admin http://127.0.0.1:9090 GET http://shop.example.com/api -H 'x-canary: 1'`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd.Context(), args[0], args[1], cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&f.manifests, "manifests", "", "directory or file of objects")
	fs.StringVar(&f.admin, "admin", "", "URL of the admin port of a running proxy")
	fs.StringVar(&f.tokenFile, "token-file", "", "file with the admin port's bearer token")
	fs.StringArrayVarP(&f.headers, "header", "H", nil, "header of the request, 'name: value'; may be repeated")
	fs.VarP(&choice{&f.output, []string{"text", "json"}}, "output", "o", "text or json")
	cmd.MarkFlagsMutuallyExclusive("manifests", "admin")
	cmd.MarkFlagsOneRequired("manifests", "admin")
	return cmd
}

func (f *explainFlags) run(ctx context.Context, method, target string, stdout, stderr io.Writer) error {
	q, err := newQuery(method, target, f.headers)
	if err != nil {
		return err
	}
	var e proxy.Explanation
	if f.admin != "" {
		e, err = explainOnline(ctx, f.admin, f.tokenFile, q)
	} else {
		e, err = explainOffline(f.manifests, q, stderr)
	}
	if err != nil {
		return &exitError{exitUsage, err}
	}
	if f.output == "json" {
		out := json.NewEncoder(stdout)
		out.SetIndent("", "  ")
		err = out.Encode(e)
	} else {
		err = writeExplanation(stdout, q, e)
	}
	if err != nil {
		return &exitError{exitUsage, err}
	}
	if e.Winner == nil {
		return &exitError{code: exitFailed}
	}
	return nil
}

// newQuery reads the request of the command line. A Host header stands for the
// host of a URL that is only a path.
func newQuery(method, target string, headers []string) (proxy.Query, error) {
	q := proxy.Query{Method: method, URL: target}
	for _, h := range headers {
		name, value, ok := strings.Cut(h, ":")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		switch {
		case !ok || name == "":
			return q, fmt.Errorf("-H %q is not of the form 'name: value'", h)
		case strings.EqualFold(name, "host"):
			q.Host = value
		default:
			q.Headers = append(q.Headers, proxy.HeaderField{Name: name, Value: value})
		}
	}
	switch {
	case strings.HasPrefix(target, "/"):
		if q.Host == "" {
			return q, fmt.Errorf("%s has no host: write http://HOST%s, or add -H 'Host: HOST'", target, target)
		}
	case !strings.HasPrefix(target, "http://") && !strings.HasPrefix(target, "https://"):
		return q, fmt.Errorf("%q is not a URL such as http://shop.example.com/api", target)
	default:
		if u, err := url.Parse(target); err == nil && u.Host == "" {
			return q, fmt.Errorf("%q has no host", target)
		}
	}
	return q, nil
}

// explainOffline asks the plan that manifests give, in an engine that never
// listens. What of the manifests is not served is said on stderr, because it
// may be the answer to the question.
func explainOffline(path string, q proxy.Query, stderr io.Writer) (proxy.Explanation, error) {
	snapshot, problems := manifests.Load(path)
	problems = slices.DeleteFunc(problems, func(p manifests.Problem) bool { return p.Severity == manifests.Warning })
	if len(problems) > 0 {
		errs := make([]error, len(problems))
		for i, p := range problems {
			errs[i] = errors.New(p.String())
		}
		return proxy.Explanation{}, fmt.Errorf("these manifests would not be served:\n%w", errors.Join(errs...))
	}
	r := translate.Build(snapshot)
	for _, n := range findings(r) {
		fmt.Fprintf(stderr, "note: %s\n", n)
	}
	engine := dataplane.New(dataplane.Config{})
	if err := engine.Apply(r.Plan); err != nil {
		return proxy.Explanation{}, err
	}
	return engine.Explain(q), nil
}
