package http1

import (
	"bufio"
	"bytes"
	"net/http"
	"testing"
)

const wrkGet = "GET / HTTP/1.1\r\nHost: localhost:8080\r\n\r\n"

const browserGet = "GET /shop/products/list?category=shoes&page=2 HTTP/1.1\r\n" +
	"Host: www.example.com\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n" +
	"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n" +
	"Accept-Language: en-US,en;q=0.5\r\n" +
	"Accept-Encoding: gzip, deflate, br\r\n" +
	"Referer: https://www.example.com/shop/\r\n" +
	"Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n" +
	"Connection: keep-alive\r\n" +
	"Upgrade-Insecure-Requests: 1\r\n" +
	"Cache-Control: max-age=0\r\n\r\n"

const smallOK = "HTTP/1.1 200 OK\r\n" +
	"Server: nginx/1.22.1\r\n" +
	"Date: Mon, 06 May 2024 10:00:00 GMT\r\n" +
	"Content-Type: text/plain\r\n" +
	"Content-Length: 1024\r\n" +
	"Last-Modified: Mon, 06 May 2024 09:00:00 GMT\r\n" +
	"Connection: keep-alive\r\n" +
	"ETag: \"6638a1b0-400\"\r\n" +
	"Accept-Ranges: bytes\r\n\r\n"

func benchmarkRequest(b *testing.B, msg string) {
	b.Run("ours", func(b *testing.B) {
		buf, want := []byte(msg), len(msg)
		var r Request
		b.ReportAllocs()
		b.SetBytes(int64(len(buf)))
		for b.Loop() {
			if n, err := ParseRequest(buf, nil, &r); n != want || err != nil {
				b.Fatal(n, err)
			}
			r.Reset()
		}
	})
	b.Run("net-http", func(b *testing.B) {
		src := bytes.NewReader(nil)
		br := bufio.NewReader(src)
		b.ReportAllocs()
		b.SetBytes(int64(len(msg)))
		for b.Loop() {
			src.Reset([]byte(msg))
			br.Reset(src)
			if _, err := http.ReadRequest(br); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkParseRequestWithHostOnly(b *testing.B) { benchmarkRequest(b, wrkGet) }
func BenchmarkParseRequestOfBrowser(b *testing.B)    { benchmarkRequest(b, browserGet) }

func BenchmarkParseResponse(b *testing.B) {
	b.Run("ours", func(b *testing.B) {
		buf := []byte(smallOK)
		var r Response
		b.ReportAllocs()
		b.SetBytes(int64(len(buf)))
		for b.Loop() {
			if n, err := ParseResponse(buf, nil, &r); n != len(buf) || err != nil {
				b.Fatal(n, err)
			}
			r.Reset()
		}
	})
	b.Run("net-http", func(b *testing.B) {
		src := bytes.NewReader(nil)
		br := bufio.NewReader(src)
		b.ReportAllocs()
		b.SetBytes(int64(len(smallOK)))
		for b.Loop() {
			src.Reset([]byte(smallOK))
			br.Reset(src)
			if _, err := http.ReadResponse(br, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}
