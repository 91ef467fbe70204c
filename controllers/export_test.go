package controllers

import "time"

// SetGrantsSync makes a try to list the ReferenceGrants end after d.
func (o *Options) SetGrantsSync(d time.Duration) { o.grantsSync = d }
