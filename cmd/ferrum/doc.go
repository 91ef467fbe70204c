// Command ferrum is the proxy: a Kubernetes controller and an HTTP data plane
// in one process, and the commands that check and explain its configuration.
//
// It owns flags and the configuration file, the wiring of the packages below
// it, the two contexts of a process that drains (the data plane's ends first,
// the controllers' only when the data plane has drained), and exit codes. It
// decides nothing about traffic or about objects: dataplane and controllers do.
//
// Nothing here survives a swap of tables, because nothing here knows of one:
// the plan goes from controllers/translate to dataplane.Engine.Apply. Apply is
// called from one goroutine, the source's; the engine runs in another; signals
// arrive in a third, which alone may end the process early.
//
// Logs of the process go to standard error, the access log to standard output.
package main
