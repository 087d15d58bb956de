// Command auditsender sends events as an API server does: with the webhook backend of k8s.io/apiserver behind its
// buffered backend, from a kubeconfig. It reads lines from standard input: each is an audit event in JSON, or
// "flush", upon which it waits until all events before it were sent and prints "flushed".
//
//	auditsender batch|blocking KUBECONFIG < events.ndjson
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	auditinternal "k8s.io/apiserver/pkg/apis/audit"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/plugin/pkg/audit/buffered"
	"k8s.io/apiserver/plugin/pkg/audit/webhook"
)

// counting counts the events that the webhook has taken or lost.
type counting struct {
	audit.Backend
	taken, lost atomic.Int64
}

func (c *counting) ProcessEvents(events ...*auditinternal.Event) bool {
	ok := c.Backend.ProcessEvents(events...)
	if ok {
		c.taken.Add(int64(len(events)))
	} else {
		c.lost.Add(int64(len(events)))
	}
	return ok
}

func main() {
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(mode, kubeconfig string) error {
	// As the API server has it, but for the first wait: tests do not wait ten seconds.
	backoff := wait.Backoff{Duration: 500 * time.Millisecond, Factor: 1.5, Jitter: 0.2, Steps: 8}
	sender, err := webhook.NewBackend(kubeconfig, auditv1.SchemeGroupVersion, backoff, nil)
	if err != nil {
		return err
	}
	counts := &counting{Backend: sender}
	var backend audit.Backend = counts
	if mode == "batch" {
		backend = buffered.NewBackend(counts, buffered.BatchConfig{
			BufferSize: 10000, MaxBatchSize: 400, MaxBatchWait: 200 * time.Millisecond, AsyncDelegate: true,
			ThrottleEnable: true, ThrottleQPS: 10, ThrottleBurst: 15,
		})
	}
	stop := make(chan struct{})
	if err := backend.Run(stop); err != nil {
		return err
	}
	sent := int64(0)
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		if lines.Text() == "flush" {
			for counts.taken.Load()+counts.lost.Load() < sent {
				time.Sleep(20 * time.Millisecond)
			}
			fmt.Printf("flushed taken=%d lost=%d\n", counts.taken.Load(), counts.lost.Load())
			continue
		}
		var external auditv1.Event
		if err := json.Unmarshal(lines.Bytes(), &external); err != nil {
			return err
		}
		event := &auditinternal.Event{}
		if err := auditv1.Convert_v1_Event_To_audit_Event(&external, event, nil); err != nil {
			return err
		}
		backend.ProcessEvents(event)
		sent++
	}
	close(stop)
	backend.Shutdown()
	return lines.Err()
}
