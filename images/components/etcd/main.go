// etcd as it is, with its timers joined (see package slack).
package main

import (
	"os"

	_ "components.sampan/slack" // first of all

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
