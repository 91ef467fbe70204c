package route

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func canonical(path string) (string, error) {
	b := []byte(path)
	n, err := CanonicalPath(b)
	return string(b[:n]), err
}

func TestCanonicalPathGivesEveryPathOneSpelling(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"/", "/"},
		{"/a/b.c/~d-e_f", "/a/b.c/~d-e_f"},
		{"/a/", "/a/"},
		// Escapes: unreserved ones go, the others get upper-case digits.
		{"/%61%2D%2e%5f%7Eb", "/a-._~b"},
		{"/caf%c3%a9", "/caf%C3%A9"},
		{"/a%20b%3f%23", "/a%20b%3F%23"},
		{"/a%0a", "/a%0A"},
		{"/a;v=1,2/(b)|\"c\"", "/a;v=1,2/(b)|\"c\""},
		// Decoded once: what an escape hides is not looked at again.
		{"/%252e%252e/a", "/%252e%252e/a"},
		{"/%2525", "/%2525"},
		{"/%25%36%31", "/%2561"},
		// Slashes.
		{"//", "/"},
		{"//a///b//", "/a/b/"},
		{"/a%2fb", "/a%2Fb"},
		{"/a%2F%2Fb", "/a%2F%2Fb"},
		{"/%2F", "/%2F"},
		// Dot segments.
		{"/.", "/"},
		{"/./", "/"},
		{"/./a", "/a"},
		{"/a/.", "/a/"},
		{"/a/..", "/"},
		{"/a/../", "/"},
		{"/a/b/../c", "/a/c"},
		{"/a/b/../../c", "/c"},
		{"/a/%2e%2E/b", "/b"},
		{"/a/.%2e/b", "/b"},
		{"/a//../b", "/b"},
		{"/a/.//./b", "/a/b"},
		{"/a/b/..", "/a/"},
		{"/a%2Fb/../c", "/c"},
		// What only looks like one.
		{"/...", "/..."},
		{"/.a/..b/c./d..", "/.a/..b/c./d.."},
		{"/.well-known/x", "/.well-known/x"},
		{"/a%2Fb../.%2e.", "/a%2Fb../..."},
		{"/a%2F...%2Fb", "/a%2F...%2Fb"},
	} {
		got, err := canonical(c.in)
		if err != nil || got != c.want {
			t.Errorf("CanonicalPath(%q) = %q, %v; want %q", c.in, got, err, c.want)
		}
	}
}

func TestCanonicalPathRefusesWhatABackendMayReadDifferently(t *testing.T) {
	for _, c := range []struct {
		in   string
		want error
	}{
		{"", ErrPathRelative},
		{"a", ErrPathRelative},
		{"*", ErrPathRelative},
		{"%2Fa", ErrPathRelative},
		{"/a%", ErrPathEscape},
		{"/a%2", ErrPathEscape},
		{"/a%2x", ErrPathEscape},
		{"/a%x2", ErrPathEscape},
		{"/%%32e", ErrPathEscape},
		{"/%00", ErrPathNul},
		{"/a b", ErrPathByte},
		{"/a\x00", ErrPathByte},
		{"/a\r\nb", ErrPathByte},
		{"/a\tb", ErrPathByte},
		{"/a\x7f", ErrPathByte},
		{"/caf\xc3\xa9", ErrPathByte},
		{"/a#b", ErrPathByte},
		{"/a?b", ErrPathByte},
		{`/a\b`, ErrPathBackslash},
		{`/..\a`, ErrPathBackslash},
		{"/a%5cb", ErrPathBackslash},
		{"/a%5Cb", ErrPathBackslash},
		{"/..", ErrPathAboveRoot},
		{"/../a", ErrPathAboveRoot},
		{"/%2e%2e/a", ErrPathAboveRoot},
		{"/a/../..", ErrPathAboveRoot},
		{"/a/../../a", ErrPathAboveRoot},
		{"//../a", ErrPathAboveRoot},
		{"/a%2F..", ErrPathHiddenDot},
		{"/a/..%2fb", ErrPathHiddenDot},
		{"/a%2F%2e%2E%2fb", ErrPathHiddenDot},
		{"/a%2f./b", ErrPathHiddenDot},
		{"/.%2F", ErrPathHiddenDot},
		{"/a%2F..%2Fb%20", ErrPathHiddenDot},
	} {
		if got, err := canonical(c.in); !errors.Is(err, c.want) || got != "" {
			t.Errorf("CanonicalPath(%q) = %q, %v; want %v", c.in, got, err, c.want)
		}
	}
}

// naivePath says the same as CanonicalPath, one rule after the other.
func naivePath(path string) (string, error) {
	if !strings.HasPrefix(path, "/") {
		return "", errors.New("relative")
	}
	if regexp.MustCompile(`[^\x21-\x7e]|[#?\\]|%00|%5[cC]`).MatchString(path) {
		return "", errors.New("forbidden")
	}
	escape := regexp.MustCompile(`%[0-9A-Fa-f]{2}`)
	if strings.Contains(escape.ReplaceAllString(path, ""), "%") {
		return "", errors.New("escape")
	}
	path = escape.ReplaceAllStringFunc(path, func(e string) string {
		v, err := strconv.ParseUint(e[1:], 16, 8)
		if err != nil {
			panic(err)
		}
		if c := fmt.Sprintf("%c", rune(v)); regexp.MustCompile(`^[A-Za-z0-9._~-]$`).MatchString(c) {
			return c
		}
		return strings.ToUpper(e)
	})
	path = regexp.MustCompile(`/+`).ReplaceAllString(path, "/")
	if regexp.MustCompile(`%2F\.\.?(%2F|/|$)|/\.\.?%2F`).MatchString(path) {
		return "", errors.New("hidden dot")
	}
	segments := strings.Split(path[1:], "/")
	var kept []string
	for i, s := range segments {
		last := i == len(segments)-1
		switch s {
		case ".", "..":
			if s == ".." {
				if len(kept) == 0 {
					return "", errors.New("above root")
				}
				kept = kept[:len(kept)-1]
			}
			if last {
				kept = append(kept, "")
			}
		default:
			kept = append(kept, s)
		}
	}
	return "/" + strings.Join(kept, "/"), nil
}

func FuzzCanonicalPathAgreesWithANaiveReading(f *testing.F) {
	for _, seed := range []string{
		"", "/", "//", "/a/b/", "/./a/../b", "/../", "/a%2F..%2f", "/%2e%2e/", "/%252e", "/%C3%a9",
		"/%00", "/%5c", "/a%", "/a\\b", "/a/.../..a/a..", "/a//../b", "/a b", "/%7e%41%2d",
		"/a/b/c/../../../d/.", "/.%2F", "/x%2F/..", "/%2f.%20", "/%2f..%2f%20",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		got, err := canonical(path)
		want, wantErr := naivePath(path)
		if (err != nil) != (wantErr != nil) || got != want {
			t.Fatalf("CanonicalPath(%q) = %q, %v; naive: %q, %v", path, got, err, want, wantErr)
		}
		if err != nil {
			return
		}
		if again, err := canonical(got); err != nil || again != got {
			t.Fatalf("CanonicalPath(%q) = %q, but of that %q, %v", path, got, again, err)
		}
		for _, s := range strings.SplitAfter(got[1:], "/") {
			if s == "/" || s == "./" || s == "../" || s == "." || s == ".." {
				t.Fatalf("CanonicalPath(%q) = %q keeps the segment %q", path, got, s)
			}
		}
	})
}

func TestCanonicalPathDoesNotAllocate(t *testing.T) {
	for _, path := range []string{
		"/api/v1/users/1234", "/a/%7euser/../%c3%a9//b%2Fc", "/a/../..", "/a%2F..", "/%zz",
	} {
		buf := make([]byte, len(path))
		if n := testing.AllocsPerRun(100, func() {
			copy(buf, path)
			_, _ = CanonicalPath(buf)
		}); n != 0 {
			t.Errorf("CanonicalPath(%q) allocates %v times", path, n)
		}
	}
}

func BenchmarkCanonicalPath(b *testing.B) {
	for name, path := range map[string]string{
		"canonical":  "/api/v1/tenants/8f14e45f/users/1234/orders",
		"escapes":    "/api/v1/tenants/8f14%2de45f/users/caf%c3%a9/orders",
		"dotSegment": "/api/v1/tenants/./8f14e45f/x/../users//1234/orders",
	} {
		b.Run(name, func(b *testing.B) {
			buf := make([]byte, len(path))
			b.SetBytes(int64(len(path)))
			b.ReportAllocs()
			for b.Loop() {
				copy(buf, path)
				if _, err := CanonicalPath(buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
