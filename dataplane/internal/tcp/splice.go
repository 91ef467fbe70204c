package tcp

import "errors"

// ErrNoPipe says that there is no pipe to be had: too many descriptors are open.
var ErrNoPipe = errors.New("tcp: no pipe to splice through")
