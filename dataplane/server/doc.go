// Package server owns the listeners of the data plane and the life of the
// connections accepted on them: it counts them, knows which are idle, and ends
// them in order when the process is to stop. It knows nothing of HTTP beyond
// idle and busy.
//
// A Server is used once: Listen, Serve, Drain. Its methods may be called
// concurrently. Nothing here depends on the plan.
package server
