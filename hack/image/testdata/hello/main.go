// Command hello is a program to make an image of.
package main

import "os"

func main() { _, _ = os.Stdout.WriteString("hello\n") }
