package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/cloud-provider/controllers/service"
	controllermetrics "k8s.io/component-base/metrics/prometheus/controllers"
)

// balancer gives each Service of type LoadBalancer an address of the bridge, and routes it to the
// nodes, as a router does that speaks to a bare-metal load balancer. The rules of kube-proxy on a node
// take it from there, as they take what comes to a NodePort. The routes go with the bridge.
type balancer struct {
	bridge netlink.Link
	// addresses holds the free range, and who has which address of it.
	mutex     sync.Mutex
	addresses netip.Prefix
	owners    map[netip.Addr]types.UID
}

// runBalancer keeps the addresses of all Services until it is told to end.
func runBalancer() {
	if err := keepBalancing(); err != nil {
		log.Fatal(err)
	}
}

func keepBalancing() error {
	flags := flag.NewFlagSet("load-balancer", flag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", "", "credentials")
	bridge := flags.String("bridge", "", "the link on which the nodes are reached")
	addresses := flags.String("addresses", "", "the range of the addresses to give")
	if err := flags.Parse(os.Args[1:]); err != nil {
		return err
	}
	prefix, err := netip.ParsePrefix(*addresses)
	if err != nil {
		return err
	}
	link, err := netlink.LinkByName(*bridge)
	if err != nil {
		return fmt.Errorf("link %s: %w", *bridge, err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()

	b := &balancer{bridge: link, addresses: prefix, owners: map[netip.Addr]types.UID{}}
	objects := informers.NewSharedInformerFactory(client, 0)
	services, nodes := objects.Core().V1().Services(), objects.Core().V1().Nodes()
	controller, err := service.New(b, client, services, nodes, "local", nil)
	if err != nil {
		return err
	}
	// Whoever has an address keeps it, also when this was started anew.
	list, err := client.CoreV1().Services("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for i := range list.Items {
		if address, ok := given(&list.Items[i]); ok && prefix.Contains(address) {
			b.owners[address] = list.Items[i].UID
		}
	}
	objects.Start(ctx.Done())
	controller.Run(ctx, 1, controllermetrics.NewControllerManagerMetrics("load-balancer"))
	return nil
}

// EnsureLoadBalancer gives the Service an address, unless it has one, and routes it to the nodes.
func (b *balancer) EnsureLoadBalancer(ctx context.Context, cluster string, s *corev1.Service, nodes []*corev1.Node) (*corev1.LoadBalancerStatus, error) {
	address, err := b.take(s.UID)
	if err != nil {
		return nil, err
	}
	if err := b.route(address, nodes); err != nil {
		return nil, err
	}
	return status(address), nil
}

// UpdateLoadBalancer routes the Service's address to these nodes only.
func (b *balancer) UpdateLoadBalancer(ctx context.Context, cluster string, s *corev1.Service, nodes []*corev1.Node) error {
	_, err := b.EnsureLoadBalancer(ctx, cluster, s, nodes)
	return err
}

// EnsureLoadBalancerDeleted takes the address back.
func (b *balancer) EnsureLoadBalancerDeleted(ctx context.Context, cluster string, s *corev1.Service) error {
	address, ok := b.of(s.UID)
	if !ok {
		return nil
	}
	if err := b.route(address, nil); err != nil {
		return err
	}
	b.mutex.Lock()
	defer b.mutex.Unlock()
	delete(b.owners, address)
	return nil
}

// GetLoadBalancer returns the address that the Service has.
func (b *balancer) GetLoadBalancer(ctx context.Context, cluster string, s *corev1.Service) (*corev1.LoadBalancerStatus, bool, error) {
	address, ok := b.of(s.UID)
	if !ok {
		return nil, false, nil
	}
	return status(address), true, nil
}

// What a cloud can do beside load balancers, this one cannot.

func (b *balancer) Initialize(cloudprovider.ControllerClientBuilder, <-chan struct{}) {}
func (b *balancer) LoadBalancer() (cloudprovider.LoadBalancer, bool)                  { return b, true }
func (b *balancer) Instances() (cloudprovider.Instances, bool)                        { return nil, false }
func (b *balancer) InstancesV2() (cloudprovider.InstancesV2, bool)                    { return nil, false }
func (b *balancer) Zones() (cloudprovider.Zones, bool)                                { return nil, false }
func (b *balancer) Clusters() (cloudprovider.Clusters, bool)                          { return nil, false }
func (b *balancer) Routes() (cloudprovider.Routes, bool)                              { return nil, false }
func (b *balancer) ProviderName() string                                              { return "local" }
func (b *balancer) HasClusterID() bool                                                { return true }

// GetLoadBalancerName returns a name that no other Service has.
func (b *balancer) GetLoadBalancerName(ctx context.Context, cluster string, s *corev1.Service) string {
	return string(s.UID)
}

func (b *balancer) of(owner types.UID) (netip.Addr, bool) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	for address, present := range b.owners {
		if present == owner {
			return address, true
		}
	}
	return netip.Addr{}, false
}

// take returns the owner's address, a free one if it has none.
func (b *balancer) take(owner types.UID) (netip.Addr, error) {
	if address, ok := b.of(owner); ok {
		return address, nil
	}
	b.mutex.Lock()
	defer b.mutex.Unlock()
	for address := b.addresses.Addr(); b.addresses.Contains(address); address = address.Next() {
		if _, taken := b.owners[address]; !taken {
			b.owners[address] = owner
			return address, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("no address of %s is free", b.addresses)
}

// route leads the address to all of the nodes, a connection to one of them; to none, it ends.
func (b *balancer) route(address netip.Addr, nodes []*corev1.Node) error {
	destination := &net.IPNet{IP: address.AsSlice(), Mask: net.CIDRMask(32, 32)}
	route := &netlink.Route{Dst: destination}
	for _, node := range nodes {
		for _, nodeAddress := range node.Status.Addresses {
			if ip := net.ParseIP(nodeAddress.Address); nodeAddress.Type == corev1.NodeInternalIP && ip.To4() != nil {
				hop := &netlink.NexthopInfo{LinkIndex: b.bridge.Attrs().Index, Gw: ip}
				route.MultiPath = append(route.MultiPath, hop)
			}
		}
	}
	if len(route.MultiPath) > 0 {
		return netlink.RouteReplace(route)
	}
	present, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Dst: destination}, netlink.RT_FILTER_DST)
	if err != nil {
		return err
	}
	for i := range present {
		if err := netlink.RouteDel(&present[i]); err != nil {
			return err
		}
	}
	return nil
}

func status(address netip.Addr) *corev1.LoadBalancerStatus {
	return &corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: address.String()}}}
}

// given returns the address in the status of a Service.
func given(s *corev1.Service) (netip.Addr, bool) {
	for _, ingress := range s.Status.LoadBalancer.Ingress {
		if address, err := netip.ParseAddr(ingress.IP); err == nil {
			return address, true
		}
	}
	return netip.Addr{}, false
}
