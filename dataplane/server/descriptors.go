package server

const (
	// ownDescriptors is a share for what is open beside the connections: logs,
	// files, the admin port, the API server.
	ownDescriptors = 32
	// perConnection is what one of a client may need: its own, one to an endpoint,
	// and the two ends of a pipe, through which large bodies go in the kernel.
	perConnection = 4
	// minConnections is taken however little there is.
	minConnections = 8
	// bytesPerConnection is what a connection takes while it does nothing, and
	// memoryShare the part of the memory that those may take: half is for buffers,
	// and the last quarter for requests under way and all else.
	bytesPerConnection = 8 << 10
	memoryShare        = 4
)

// Connections returns how many client connections a process takes that may have
// so many file descriptors, as ConnectionsFor, and so many bytes of memory that
// those which only stay open do not fill it; 0 bytes are no limit.
func Connections(descriptors uint64, memory int64) int {
	fit := ConnectionsFor(descriptors)
	if memory <= 0 {
		return fit
	}
	idle := int(max(memory/memoryShare/bytesPerConnection, minConnections))
	if fit == 0 {
		return idle
	}
	return min(fit, idle)
}

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
