//go:build race

package route

// raceDetector: under it a sync.Pool loses things at random, on purpose.
const raceDetector = true
