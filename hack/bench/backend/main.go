package main

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"strconv"
	"strings"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8081", "comma-separated addresses to listen on")
	small := flag.Int("small", 1<<10, "bytes of every answer that is not one of the others")
	unavailable := flag.String("unavailable", "", "the one of these addresses that answers 503")
	large := flag.Int("large", 256<<10, "bytes of /large")
	flag.Parse()

	a := answers{upload: answer(0), small: answer(*small), large: answer(*large)}
	failed := make(chan error)
	for addr := range strings.SplitSeq(*listen, ",") {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			log.Fatal(err)
		}
		served := a
		if addr == *unavailable {
			served = busy()
		}
		go func() { failed <- served.serve(l) }()
	}
	log.Fatal(<-failed)
}

// answers are whole responses.
type answers struct{ upload, small, large []byte }

func answer(size int) []byte {
	head := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n", size)
	return append(head, bytes.Repeat([]byte{'x'}, size)...)
}

// busy answers everything with 503.
func busy() answers {
	b := []byte("HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 11\r\n\r\nunavailable")
	return answers{upload: b, small: b, large: b}
}

func (a *answers) serve(l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			if err := a.serveConn(c); err != nil && !errors.Is(err, io.EOF) {
				log.Print(err)
			}
		}()
	}
}

func (a *answers) serveConn(c net.Conn) error {
	in := bufio.NewReaderSize(c, 64<<10)
	for {
		r, err := readRequest(in)
		if err != nil {
			return err
		}
		if _, err := in.Discard(r.length); err != nil {
			return fmt.Errorf("in a request's body: %w", unexpected(err))
		}
		body := a.small
		switch {
		case bytes.HasPrefix(r.target, []byte("/upload")):
			body = a.upload
		case bytes.HasPrefix(r.target, []byte("/large")):
			body = a.large
		}
		if _, err := c.Write(body); err != nil {
			return err
		}
		if r.close {
			return nil
		}
	}
}

// request is what matters of a request.
type request struct {
	target []byte // valid until the next read
	length int    // of the body, bytes
	close  bool   // no other request follows
}

// readRequest reads a request's head. It returns io.EOF when there is none.
func readRequest(in *bufio.Reader) (r request, err error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return r, err
	}
	_, rest, ok := bytes.Cut(line, []byte(" "))
	target, _, found := bytes.Cut(rest, []byte(" "))
	if !ok || !found {
		return r, fmt.Errorf("bad request line %q", line)
	}
	r.target = append(r.target, target...) // the buffer moves on
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return r, fmt.Errorf("in a request's head: %w", unexpected(err))
		}
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			return r, nil
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if r.length, err = strconv.Atoi(string(value)); err != nil || r.length < 0 {
				return r, fmt.Errorf("bad Content-Length %q", value)
			}
		case bytes.EqualFold(name, []byte("Connection")):
			r.close = bytes.EqualFold(value, []byte("close"))
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			return r, errors.New("a chunked request, which this does not read")
		}
	}
}

// unexpected tells an end in the middle of a request from one after it.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
