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
		if err := verify(os.Args[1], time.Unix(seconds, 0), folder); err != nil {
			fmt.Println("NO " + strings.ReplaceAll(err.Error(), "\n", " "))
		} else {
			fmt.Println("OK")
		}
	}
}

func verify(host string, at time.Time, folder string) error {
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	trusted, err := read(folder + "/root.pem")
	if err != nil {
		return err
	}
	for _, root := range trusted {
		roots.AddCert(root)
	}
	chain, err := read(folder + "/chain.pem")
	if err != nil {
		return err
	}
	for _, one := range chain[1:] {
		intermediates.AddCert(one)
	}
	options := x509.VerifyOptions{DNSName: host, Roots: roots, Intermediates: intermediates, CurrentTime: at}
	_, err = chain[0].Verify(options)
	return err
}

// A certificate that cannot be parsed is a refusal.
func read(path string) ([]*x509.Certificate, error) {
	rest, err := os.ReadFile(path)
	if err != nil {
		panic(err)
	}
	var found []*x509.Certificate
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return found, nil
		}
		one, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		found = append(found, one)
	}
}
