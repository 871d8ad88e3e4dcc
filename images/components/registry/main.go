// The registry with the storage that makes sense inside one small node.
//
// Left out are the drivers of somebody's object stores (azure, gcs, s3) and what stands before them (cloudfront, redis'
// token checks): their client libraries are half of the stock program, and a node of one's own has none of these behind it.
package main

import (
	_ "components.sampan/slack" // first of all

	"os"

	"github.com/distribution/distribution/v3/registry"
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"
	_ "github.com/distribution/distribution/v3/registry/auth/silly"
	_ "github.com/distribution/distribution/v3/registry/proxy"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/middleware/redirect"
)

func main() {
	if registry.RootCmd.Execute() != nil {
		os.Exit(1)
	}
}
