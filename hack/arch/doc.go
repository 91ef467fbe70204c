// Package arch holds the tests of the repository as a whole: which package may
// import which, and that every package says what it owns.
//
// It owns these rules and no code: nothing imports it, nothing of it runs in the
// product, and its tests only read the tree.
package arch
