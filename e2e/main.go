// Command handfast-e2e is a Kubernetes control plane, kubectl and helm in one binary: what the end-to-end tests run.
//
// Each subcommand is the published program itself, taken as a Go module at the version of go.mod. One process runs one
// subcommand: signal handling of the components can be set up once per process only.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/embed"
	helm "helm.sh/helm/v4/pkg/cmd"
	"k8s.io/component-base/cli"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	kcm "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
)

const usage = `usage: handfast-e2e COMMAND ...

  etcd DIR CLIENT_URL PEER_URL   one member, without fsync
  apiserver FLAGS                kube-apiserver
  kcm FLAGS                      kube-controller-manager
  proxy FLAGS                    kube-proxy
  kubectl ...                    kubectl
  helm ...                       helm
`

func main() {
	if len(os.Args) < 2 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	name, rest := os.Args[1], os.Args[2:]
	switch name {
	case "etcd":
		if err := etcd(rest); err != nil {
			fmt.Fprintln(os.Stderr, "etcd:", err)
			os.Exit(1)
		}
	case "apiserver":
		os.Exit(component(apiserver.NewAPIServerCommand(), rest))
	case "kcm":
		os.Exit(component(kcm.NewControllerManagerCommand(), rest))
	case "proxy":
		os.Exit(component(proxy.NewProxyCommand(), rest))
	case "kubectl":
		// kubectl looks at os.Args for plugins.
		os.Args = os.Args[1:]
		os.Exit(cli.Run(kubectl.NewDefaultKubectlCommand()))
	case "helm":
		os.Args = os.Args[1:]
		command, err := helm.NewRootCmd(os.Stdout, rest, helm.SetupLogging)
		if err != nil {
			slog.Warn("helm: cannot start", slog.Any("error", err))
			os.Exit(1)
		}
		if err := command.Execute(); err != nil {
			os.Exit(1)
		}
	default:
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
}

func component(command *cobra.Command, args []string) int {
	command.SetArgs(args)
	return cli.Run(command)
}

// etcd runs one member until SIGINT or SIGTERM. It does not wait for the disk: its data outlive its process, and need
// not outlive the machine.
func etcd(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("wants DIR CLIENT_URL PEER_URL, got %d arguments", len(args))
	}
	client, err := url.Parse(args[1])
	if err != nil {
		return err
	}
	peer, err := url.Parse(args[2])
	if err != nil {
		return err
	}
	config := embed.NewConfig()
	config.Dir = args[0]
	config.LogLevel = "error"
	config.UnsafeNoFsync = true
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{*client}, []url.URL{*client}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{*peer}, []url.URL{*peer}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	server, err := embed.StartEtcd(config)
	if err != nil {
		return err
	}
	ended, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	select {
	case <-ended.Done():
		server.Close()
		return nil
	case err := <-server.Err():
		return err
	}
}
