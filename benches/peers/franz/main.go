// franz-go in a benchmark: reads the topic of a job once without counting and then as often as the job says, and prints
// what that cost, as the clients in benches/ do.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

type job struct {
	Bootstrap  string `json:"bootstrap"`
	Topic      string `json:"topic"`
	Partitions int32  `json:"partitions"`
	Records    uint64 `json:"records"`
	Passes     uint64 `json:"passes"`
	FetchBytes int32  `json:"fetch_bytes"`
	MaxWaitMs  int64  `json:"max_wait_ms"`
}

type result struct {
	Records  uint64 `json:"records"`
	Bytes    uint64 `json:"bytes"`
	Checksum uint64 `json:"checksum"`
	User     int64  `json:"user_ns"`
	System   int64  `json:"system_ns"`
	Wall     int64  `json:"wall_ns"`
	PeakRss  int64  `json:"peak_rss_kib"`
	First    int64  `json:"first_record_ns"`
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func cpu() (int64, int64) {
	var usage syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return usage.Utime.Nano(), usage.Stime.Nano()
}

func peakRss() int64 {
	status, err := os.ReadFile("/proc/self/status")
	check(err)
	for _, line := range strings.Split(string(status), "\n") {
		if rest, found := strings.CutPrefix(line, "VmHWM:"); found {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			check(err)
			return kib
		}
	}
	return 0
}

func main() {
	start := time.Now()
	var j job
	check(json.Unmarshal([]byte(os.Args[1]), &j))
	beginning := map[int32]kgo.Offset{}
	var partitions []int32
	for p := int32(0); p < j.Partitions; p++ {
		beginning[p] = kgo.NewOffset().At(0)
		partitions = append(partitions, p)
	}
	offsets := map[string]map[int32]kgo.Offset{j.Topic: beginning}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(j.Bootstrap, ",")...),
		kgo.FetchMaxBytes(j.FetchBytes),
		kgo.FetchMaxPartitionBytes(j.FetchBytes),
		kgo.FetchMaxWait(time.Duration(j.MaxWaitMs)*time.Millisecond),
		kgo.ConsumePartitions(offsets),
	)
	check(err)
	var r result
	var user, system int64
	var began time.Time
	for pass := uint64(0); pass <= j.Passes; pass++ {
		if pass == 1 {
			r = result{First: r.First}
			user, system = cpu()
			began = time.Now()
		}
		if pass > 0 {
			client.RemoveConsumePartitions(map[string][]int32{j.Topic: partitions})
			client.AddConsumePartitions(offsets)
		}
		end := r.Records + j.Records
		for r.Records < end {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			fetches := client.PollFetches(ctx)
			cancel()
			check(fetches.Err())
			fetches.EachRecord(func(record *kgo.Record) {
				key, value := uint64(len(record.Key)), record.Value
				r.Records++
				r.Bytes += key + uint64(len(value))
				r.Checksum += key + uint64(value[0]) + uint64(value[len(value)-1])<<8
			})
			if r.First == 0 {
				r.First = time.Since(start).Nanoseconds()
			}
		}
	}
	nowUser, nowSystem := cpu()
	r.User, r.System, r.Wall = nowUser-user, nowSystem-system, time.Since(began).Nanoseconds()
	r.PeakRss = peakRss()
	line, err := json.Marshal(r)
	check(err)
	fmt.Println(string(line))
}
