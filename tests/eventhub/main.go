// Command eventhub is an Event Hub as clients of Kafka see it: one topic behind SASL PLAIN with the user
// $ConnectionString. Each line of standard input is a message. It prints the address that it listens on, and serves
// until it is killed.
//
//	eventhub TOPIC PASSWORD < messages
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
)

const user = "$ConnectionString"

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: eventhub TOPIC PASSWORD < messages")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(topic, password string) error {
	hub, err := kfake.NewCluster(
		kfake.NumBrokers(1),
		kfake.SeedTopics(2, topic),
		kfake.EnableSASL(),
		kfake.Superuser("PLAIN", user, password),
	)
	if err != nil {
		return err
	}
	defer hub.Close()
	client, err := kgo.NewClient(
		kgo.SeedBrokers(hub.ListenAddrs()...),
		kgo.SASL(plain.Auth{User: user, Pass: password}.AsMechanism()),
		kgo.DefaultProduceTopic(topic),
		kgo.ProducerBatchMaxBytes(4<<20),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	fmt.Println(hub.ListenAddrs()[0])
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		within, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		message := &kgo.Record{Value: append([]byte(nil), lines.Bytes()...)}
		err := client.ProduceSync(within, message).FirstErr()
		cancel()
		if err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	select {}
}
