//go:build !linux

package http1

import "time"

// ackedBytes cannot be told here.
func (c *Conn) ackedBytes() uint64 { return 0 }

const splices = false // see CanSplice

// splice is not called here.
func (b *Body) splice(*Conn, time.Time) (n int64, srcErr, dstErr error) { return 0, nil, nil }
