package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/proxy"
)

// maxQuery bounds the body of a POST to /debug/explain.
const maxQuery = 64 << 10

// explain answers what would happen to a request. GET takes it as parameters,
// for people with curl; POST takes a proxy.Query as JSON, for `ferrum explain`.
func (s *Server) explain(w http.ResponseWriter, r *http.Request) {
	var q proxy.Query
	var err error
	if r.Method == http.MethodPost {
		q, err = bodyQuery(w, r)
	} else {
		q, err = parameterQuery(r.URL.RawQuery)
	}
	if err == nil {
		q, err = checked(q)
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	s.writeJSON(w, s.config.Explain(q))
}

func bodyQuery(w http.ResponseWriter, r *http.Request) (q proxy.Query, err error) {
	err = decodeBody(w, r, maxQuery, &q, `{"method":"GET","url":"http://HOST/PATH","headers":[{"name":"N","value":"V"}]}`)
	return q, err
}

// decodeBody reads the one JSON object that a body of at most limit bytes has to
// be. like is one, for the error.
func decodeBody(w http.ResponseWriter, r *http.Request, limit int64, into any, like string) error {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return errors.New(`the body is not said to be JSON: send "Content-Type: application/json"`)
	}
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, limit))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf(`the body is no query: %w; send %s`, err, like)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("the body goes on after the query: send one JSON object")
	}
	return nil
}

func parameterQuery(raw string) (q proxy.Query, err error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return q, fmt.Errorf("the parameters cannot be read: %w; with curl, use -G --data-urlencode url=URL", err)
	}
	single := map[string]*string{"method": &q.Method, "url": &q.URL, "host": &q.Host}
	for name, given := range values {
		field := single[name]
		switch {
		case name == "header":
		case field == nil:
			return q, fmt.Errorf("the parameter %q is unknown: use method, url, host and header; encode an & in the url as %%26", name)
		case len(given) > 1:
			return q, fmt.Errorf("the parameter %q is given %d times: give it once", name, len(given))
		default:
			*field = given[0]
		}
	}
	for _, h := range values["header"] {
		name, value, ok := strings.Cut(h, ":")
		if !ok {
			return q, fmt.Errorf("header %q has no colon: write header=Name:%%20value", h)
		}
		q.Headers = append(q.Headers, proxy.HeaderField{Name: name, Value: strings.Trim(value, " \t")})
	}
	return q, nil
}

// checked returns the query with its defaults, or an error that says what to do
// about it. What it lets pass is a request; whether the proxy would take that
// one for malformed is for the explanation to say.
func checked(q proxy.Query) (proxy.Query, error) {
	if q.Method == "" {
		q.Method = http.MethodGet
	}
	q.Headers = slices.Clone(q.Headers)
	q.Headers = slices.DeleteFunc(q.Headers, func(f proxy.HeaderField) bool {
		host := strings.EqualFold(f.Name, "host")
		if host && q.Host == "" {
			q.Host = f.Value
		}
		return host
	})
	for _, f := range q.Headers {
		if !isToken(f.Name) {
			return q, fmt.Errorf("header name %q is not a token: write header=Name:%%20value", f.Name)
		}
		if hasControl(f.Value) {
			return q, fmt.Errorf("the value %q of header %s has control characters: leave them out", f.Value, f.Name)
		}
	}
	switch {
	case !isToken(q.Method):
		return q, fmt.Errorf("method %q is not a token: use one such as GET", q.Method)
	case q.URL == "":
		return q, errors.New("there is no url: add url=http://HOST/PATH, or url=/PATH and host=HOST")
	case hasControl(q.URL) || hasControl(q.Host):
		return q, errors.New("url or host have control characters: percent-encode them, in a parameter twice")
	}
	u, err := url.Parse(q.URL)
	switch {
	case err != nil:
		return q, fmt.Errorf("the url cannot be read: %w", err)
	case strings.HasPrefix(q.URL, "/"):
		if q.Host == "" {
			return q, fmt.Errorf("url %q has no host: add host=HOST, or write url=http://HOST%s", q.URL, q.URL)
		}
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return q, fmt.Errorf("url %q is neither http://HOST/PATH nor a path that begins with /", q.URL)
	}
	return q, nil
}

// isToken reports whether s is a token of RFC 9110, section 5.6.2.
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool {
		alphanumeric := c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
		return !alphanumeric && !strings.ContainsRune("!#$%&'*+-.^_`|~", c)
	})
}

// hasControl reports whether s has a control character other than a tab, which
// could not be part of a request's line or field.
func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f })
}
