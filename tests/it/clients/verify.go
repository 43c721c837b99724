// Judges chains as an HTTPS client in Go does, at a given time. Arguments: host, seconds since 1970, then folders.
package main

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

func main() {
	seconds, _ := strconv.ParseInt(os.Args[2], 10, 64)
	for _, folder := range os.Args[3:] {
		roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
		for _, root := range read(folder + "/root.pem") {
			roots.AddCert(root)
		}
		chain := read(folder + "/chain.pem")
		for _, one := range chain[1:] {
			intermediates.AddCert(one)
		}
		options := x509.VerifyOptions{DNSName: os.Args[1], Roots: roots, Intermediates: intermediates, CurrentTime: time.Unix(seconds, 0)}
		if _, err := chain[0].Verify(options); err != nil {
			fmt.Println("NO " + strings.ReplaceAll(err.Error(), "\n", " "))
		} else {
			fmt.Println("OK")
		}
	}
}

func read(path string) []*x509.Certificate {
	rest, err := os.ReadFile(path)
	if err != nil {
		panic(err)
	}
	var found []*x509.Certificate
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return found
		}
		one, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			panic(err)
		}
		found = append(found, one)
	}
}
