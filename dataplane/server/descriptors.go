package server

const (
	// ownDescriptors is a share for what is open beside the connections: logs,
	// files, the admin port, the API server.
	ownDescriptors = 32
	// perConnection is what one of a client may need: its own, one to an endpoint,
	// and the two ends of a pipe, through which large bodies go in the kernel.
	perConnection = 4
	// minConnections is taken however few descriptors there are.
	minConnections = 8
)

// ConnectionsFor returns how many client connections a process with a limit of
// that many file descriptors takes so that each still gets what it may need;
// 0 descriptors are no limit, and so is the result.
func ConnectionsFor(descriptors uint64) int {
	switch {
	case descriptors == 0 || descriptors > 1<<31:
		return 0
	case descriptors < ownDescriptors:
		return minConnections
	}
	return max(int(descriptors-ownDescriptors)/perConnection, minConnections)
}
