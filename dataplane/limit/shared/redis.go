package shared

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	_ "embed" // for the script
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/limit"
)

// Config says which Redis is asked, and how. Only Address is required.
type Config struct {
	// Address is host:port.
	Address string
	// Credentials returns the user ("": the default one) and the password ("":
	// none). It is asked at each new connection. nil: no credentials are sent.
	Credentials func() (username, password string, err error)
	// Database is the number of the database.
	Database int
	// TLS is nil for none. The server's name is that of the address unless it is
	// set.
	TLS *tls.Config
	// Timeout bounds a call, with all that it has to wait for; 0: DefaultTimeout.
	Timeout time.Duration
	// Prefix begins all keys; "": DefaultPrefix.
	Prefix string
	// Log is told when Redis is lost and found.
	Log logr.Logger
}

// The values of Config for what is zero.
const (
	DefaultTimeout = 50 * time.Millisecond
	DefaultPrefix  = "ferrum:"
)

func (c *Config) timeout() time.Duration { return cmp.Or(c.Timeout, DefaultTimeout) }

//go:embed take.lua
var takeLua string

var takeScript = redis.NewScript(takeLua)

// client is a server that is a Redis.
type client struct {
	options *redis.Options
	redis   atomic.Pointer[redis.Client]
	prefix  string
}

// silent drops what the client's library has to log: what fails is returned, too.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

var silence = sync.OnceFunc(func() { redis.SetLogger(silent{}) })

func newClient(c Config) *client {
	silence()
	o := &redis.Options{
		Addr: c.Address, DB: c.Database, TLSConfig: c.TLS,
		Protocol:        2, // all that is needed, and every version has it
		DisableIdentity: true,
		// All connections are made by connect, and stay. Those that are lost later
		// are made anew by requests, a few at a time.
		PoolSize: poolSize(), MaxConcurrentDials: 4, ConnMaxIdleTime: -1,
		ReadBufferSize: 4 << 10, WriteBufferSize: 4 << 10,
		// One try: a second one could take a second token, and who waits is a
		// request.
		MaxRetries: -1, DialerRetries: 1, DialTimeout: dialTimeout,
		ContextTimeoutEnabled: true, ReadTimeout: c.timeout(), WriteTimeout: c.timeout(),
		// So that who waits for a connection in vain learns that before its time is
		// up, which would speak against Redis.
		PoolTimeout:              c.timeout() / 2,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if c.Credentials != nil {
		o.CredentialsProviderContext = func(context.Context) (string, string, error) { return c.Credentials() }
	}
	cl := &client{options: o, prefix: cmp.Or(c.Prefix, DefaultPrefix)}
	cl.redis.Store(redis.NewClient(o))
	return cl
}

// poolSize is how many connections there are: as many calls as can be under way at
// a time. With one of them Redis answers some 1,000 a second even when it is a
// millisecond away.
func poolSize() int { return max(32, 4*runtime.GOMAXPROCS(0)) }

// connect makes all connections of the pool, one after the other: a Redis that comes
// back would else get as many at once as there are requests, of all replicas at the
// same time, and requests would wait for handshakes.
func (c *client) connect(ctx context.Context) error {
	from, made := c.redis.Load(), make([]*redis.Conn, 0, c.options.PoolSize)
	defer func() {
		for _, conn := range made {
			_ = conn.Close() // which gives it to the pool
		}
	}()
	for range c.options.PoolSize {
		conn := from.Conn()
		made = append(made, conn)
		if err := ping(ctx, conn); err != nil {
			return err
		}
	}
	return nil
}

// ping makes a connection, if it is not made yet.
func ping(ctx context.Context, conn *redis.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return conn.Ping(ctx).Err()
}

// renew has all connections made anew: those that there are may lead to a server
// that is gone, or is no primary any more.
func (c *client) renew() {
	o := *c.options
	_ = c.redis.Swap(redis.NewClient(&o)).Close() // its connections are of no use any more
}

func (c *client) close() { _ = c.redis.Load().Close() } // likewise

// bucket names a limit's bucket for a key: readable as to the limit, and a hash of
// the key, which may be long or secret. 128 bits, so nobody finds another's.
func (c *client) bucket(name string, key []byte) string {
	h := sha256.Sum256(key)
	return c.prefix + name + ":" + base64.RawURLEncoding.EncodeToString(h[:16])
}

func (c *client) take(ctx context.Context, bucket string, r limit.Rate) (v limit.Verdict, err error) {
	cost, burst := costOf(r), max(r.Burst, 1)
	reply, err := takeScript.Run(ctx, c.redis.Load(), []string{bucket},
		strconv.FormatFloat(cost, 'g', -1, 64), strconv.FormatUint(uint64(burst), 10)).Int64Slice()
	if errors.Is(err, redis.ErrPoolTimeout) {
		return v, errBusy
	}
	if err != nil {
		return v, err
	}
	if len(reply) != 2 {
		return v, fmt.Errorf("the script answered with %d values, not 2", len(reply))
	}
	return verdict(reply[0] == 1, reply[1], cost, burst), nil
}

// forever is the time between two tokens, in microseconds, of a rate that has
// none to come: some 30 years.
const forever = 1e15

// costOf is the time between two tokens, in microseconds.
func costOf(r limit.Rate) float64 {
	if r.Count == 0 || r.Period <= 0 {
		return forever
	}
	return min(float64(r.Period)/float64(time.Microsecond)/float64(r.Count), forever)
}

// verdict says what it means that a bucket misses some millionths of tokens.
func verdict(ok bool, millionths int64, cost float64, burst uint32) limit.Verdict {
	missing := float64(millionths) / 1e6
	v := limit.Verdict{OK: ok, Reset: inMicroseconds(missing * cost)}
	if ok {
		v.Remaining = uint32(max(float64(burst)-missing+2e-6, 0)) // what rounding may have taken
	} else {
		v.RetryAfter = max(inMicroseconds((missing+1-float64(burst))*cost), time.Nanosecond)
	}
	return v
}

func inMicroseconds(us float64) time.Duration {
	return time.Duration(math.Ceil(min(us*float64(time.Microsecond), 1<<60)))
}
