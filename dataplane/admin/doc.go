// Package admin serves the probes, the metrics and the debug pages on a port of
// their own, with net/http: nothing here is on the path of a request.
//
// It owns no state: every answer is asked of the functions in Config at the time
// of the request, so nothing has to survive a swap of tables.
//
// # Who may ask
//
// The port shows what is configured for everybody, so it is a surface of its own:
//
//   - With tokens, everything but the two probes asks for one, pages that do not
//     exist included. They may change at any time. The decision is made for the page that was found, never by
//     comparing prefixes of a path.
//   - A browser must not be made to read it from another site's page: a request
//     with an Origin, or that the browser marks as not of the same origin, is
//     refused whatever its method, and there are no CORS headers. A page that
//     makes its own name resolve to this address (DNS rebinding) is of the same
//     origin for the browser; only the token keeps that out.
//   - Everything only reads. POST is taken by the pages explain and served
//     alone, as JSON; what is asked there shows less than the page of routes does.
//
// # Concurrency
//
// A Server may be used from any number of goroutines; Serve is called once.
package admin
