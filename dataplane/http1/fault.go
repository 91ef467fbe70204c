package http1

// Error says why a message was refused. All errors of this package's parsers
// are of this type, are shared and must not be changed. After any of them the
// connection must be closed: where the next message starts is not known, and
// what follows must never be parsed (RFC 9112 section 9.2).
type Error struct {
	// Status of the answer to the client: 4xx or 5xx. Of a response that could
	// not be parsed it is always 502.
	Status int
	// Reason is a word for labels: "bad_request", "bad_response",
	// "uri_too_long", "header_too_large", "method_not_allowed",
	// "expectation_failed", "not_implemented" or "version_not_supported".
	Reason string
	// Detail says what is wrong, for a log line.
	Detail string
	// Section names the rule that is broken, such as "RFC 9112 6.1".
	Section string
}

// Error returns the detail and the section.
func (e *Error) Error() string { return e.Detail + " (" + e.Section + ")" }

// fault is a reason to refuse a message; 0 is none.
type fault uint8

const (
	noFault fault = iota

	faultLeadingLines
	faultMethod
	faultMethodRefused
	faultTargetEmpty
	faultTargetByte
	faultTargetForm
	faultTargetScheme
	faultTargetTooLong
	faultAsterisk
	faultVersionSyntax
	faultVersion

	faultPathEscape
	faultPathNul
	faultPathBackslash
	faultPathAboveRoot
	faultPathHiddenDot

	faultStatusLine
	faultStatusCode
	faultReasonPhrase

	faultBareCR
	faultBareLF
	faultLeadingSpace
	faultFold
	faultNameEmpty
	faultNameByte
	faultNameSpace
	faultNoColon
	faultValueByte
	faultHeadTooLarge
	faultTooManyFields

	faultHostMissing
	faultHostRepeated
	faultHostSyntax
	faultHostPort
	faultExpect
	faultConnectionOption
	faultConnectionOptions

	faultLength
	faultLengthRepeated
	faultLengthWithCoding
	faultCodingRepeated
	faultCodingFraming
	faultCodingUnknown
	faultCodingVersion

	faultChunkSize
	faultChunkSizeRange
	faultChunkLine
	faultChunkExtensions
	faultChunkEnd
	faultTrailersTooLarge

	faultCount
)

// requestErrors is what each fault means in a request: the table of all that
// is refused. Where Status and Reason are not given it is a 400.
var requestErrors = [faultCount]Error{
	faultLeadingLines:  {Detail: "more than one empty line before the request line", Section: "RFC 9112 2.2"},
	faultMethod:        {Detail: "method is not a token followed by one space", Section: "RFC 9112 3.1"},
	faultMethodRefused: {405, "method_not_allowed", "CONNECT and TRACE are not served", "RFC 9110 9.3.6, 9.3.8"},
	faultTargetEmpty:   {Detail: "request target is empty", Section: "RFC 9112 3.2"},
	faultTargetByte: {Detail: "request target holds a byte that must be percent-encoded, or a fragment, or is not followed by a version",
		Section: "RFC 9112 3.2"},
	faultTargetForm:    {Detail: "request target is neither origin-form nor absolute-form", Section: "RFC 9112 3.2"},
	faultTargetScheme:  {Detail: "scheme of the request target is not that of the connection", Section: "RFC 9112 3.2.2, RFC 9110 7.4"},
	faultTargetTooLong: {414, "uri_too_long", "request line is too long", "RFC 9110 15.5.15"},
	faultAsterisk:      {Detail: "request target '*' is for OPTIONS only", Section: "RFC 9112 3.2.4"},
	faultVersionSyntax: {Detail: "request line does not end in an HTTP version and CR LF", Section: "RFC 9112 2.3, 3"},
	faultVersion:       {505, "version_not_supported", "HTTP version is neither 1.0 nor 1.1", "RFC 9110 15.6.6"},

	faultPathEscape:    {Detail: "'%' in the path is not followed by two hexadecimal digits", Section: "RFC 3986 2.1"},
	faultPathNul:       {Detail: "path holds %00", Section: "RFC 3986 7.3"},
	faultPathBackslash: {Detail: "path holds a backslash, plain or encoded", Section: "RFC 3986 7.3"},
	faultPathAboveRoot: {Detail: "'..' in the path climbs above the root", Section: "RFC 3986 5.2.4"},
	faultPathHiddenDot: {Detail: "path hides '.' or '..' beside an encoded slash", Section: "RFC 3986 7.3"},

	faultStatusLine:   {Detail: "status line does not start with HTTP/1.0 or HTTP/1.1 and a space", Section: "RFC 9112 4"},
	faultStatusCode:   {Detail: "status code is not three digits from 100 to 599", Section: "RFC 9110 15"},
	faultReasonPhrase: {Detail: "control character in the reason phrase", Section: "RFC 9112 4"},

	faultBareCR:        {Detail: "CR without LF", Section: "RFC 9112 2.2"},
	faultBareLF:        {Detail: "LF without CR", Section: "RFC 9112 2.2"},
	faultLeadingSpace:  {Detail: "white space before the first field line", Section: "RFC 9112 2.2"},
	faultFold:          {Detail: "folded field line", Section: "RFC 9112 5.2"},
	faultNameEmpty:     {Detail: "field name is empty", Section: "RFC 9112 5.1"},
	faultNameByte:      {Detail: "field name is not a token", Section: "RFC 9112 5.1"},
	faultNameSpace:     {Detail: "white space in a field name or before its colon", Section: "RFC 9112 5.1"},
	faultNoColon:       {Detail: "field line without a colon", Section: "RFC 9112 5"},
	faultValueByte:     {Detail: "control character in a field value", Section: "RFC 9110 5.5"},
	faultHeadTooLarge:  {431, "header_too_large", "head is too large", "RFC 6585 5"},
	faultTooManyFields: {431, "header_too_large", "too many fields", "RFC 6585 5"},

	faultHostMissing:       {Detail: "no Host", Section: "RFC 9112 3.2"},
	faultHostRepeated:      {Detail: "more than one Host", Section: "RFC 9112 3.2"},
	faultHostSyntax:        {Detail: "host is not a name or an address", Section: "RFC 9112 3.2, RFC 3986 3.2.2"},
	faultHostPort:          {Detail: "port of the host is not a number from 1 to 65535", Section: "RFC 3986 3.2.3"},
	faultExpect:            {417, "expectation_failed", "expectation other than 100-continue", "RFC 9110 10.1.1"},
	faultConnectionOption:  {Detail: "Connection is not a list of tokens", Section: "RFC 9110 7.6.1"},
	faultConnectionOptions: {Detail: "too many Connection options", Section: "RFC 9110 7.6.1"},

	faultLength:           {Detail: "Content-Length is not one number below 2^63", Section: "RFC 9110 8.6, RFC 9112 6.3"},
	faultLengthRepeated:   {Detail: "Content-Length repeated with another value", Section: "RFC 9112 6.3"},
	faultLengthWithCoding: {Detail: "Content-Length with Transfer-Encoding", Section: "RFC 9112 6.1, 6.3"},
	faultCodingRepeated:   {Detail: "more than one Transfer-Encoding", Section: "RFC 9112 6.1, 7.1"},
	faultCodingFraming:    {Detail: "chunked is not the one final transfer coding", Section: "RFC 9112 6.1, 6.3, 7.1"},
	faultCodingUnknown:    {501, "not_implemented", "transfer coding other than chunked", "RFC 9112 6.1"},
	faultCodingVersion:    {Detail: "Transfer-Encoding in HTTP/1.0", Section: "RFC 9112 6.1"},

	faultChunkSize:        {Detail: "chunk size is not 1 to 16 hexadecimal digits", Section: "RFC 9112 7.1"},
	faultChunkSizeRange:   {Detail: "chunk size is not below 2^63", Section: "RFC 9112 7.1"},
	faultChunkLine:        {Detail: "chunk size is not followed by CR LF or an extension", Section: "RFC 9112 7.1, 7.1.1"},
	faultChunkExtensions:  {Detail: "too many bytes of chunk extensions", Section: "RFC 9112 7.1.1"},
	faultChunkEnd:         {Detail: "chunk data is not followed by CR LF", Section: "RFC 9112 7.1"},
	faultTrailersTooLarge: {Detail: "trailer section is too large", Section: "RFC 9112 7.1.2"},
}

// responseErrors is what each fault means in a response: always a 502.
var responseErrors [faultCount]Error

func init() {
	for f := range requestErrors {
		e := &requestErrors[f]
		if e.Status == 0 {
			e.Status, e.Reason = 400, "bad_request"
		}
		responseErrors[f] = Error{502, "bad_response", e.Detail, e.Section}
	}
}

func (f fault) ofRequest() error  { return &requestErrors[f] }
func (f fault) ofResponse() error { return &responseErrors[f] }
