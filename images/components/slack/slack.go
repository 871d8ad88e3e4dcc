// Package slack does something on Linux only.
package slack
