// A small gateway: it asks tollgate before it forwards a request, and reports how it ended. See ../README.md.
//
// The stubs come from the contract:
//
//	protoc -I proto --go_out=src --go-grpc_out=src tollgate/v1/decision.proto
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	tollgatev1 "tollgate/v1"
)

const (
	// The caller waits for these, twice at most.
	checkTimeout  = 100 * time.Millisecond
	reportTimeout = 5 * time.Second
	// The pause before a report is sent again, at first and at most.
	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second
	// How long a receipt can be settled: `receipts.ttl` of the server.
	receiptTTL  = time.Hour
	mostWaiting = 100_000
	mostAtOnce  = 1000
	// How long a stop may take.
	lastReports     = 5 * time.Second
	upstreamTimeout = 30 * time.Second
)

// Tollgate checks and reports. It may be used by many goroutines.
type Tollgate struct {
	client  tollgatev1.DecisionServiceClient
	waiting chan waiting
	done    sync.WaitGroup
	lost    int64
}

type waiting struct {
	since   time.Time
	outcome *tollgatev1.Outcome
}

// NewTollgate connects with the first question, and again by itself.
func NewTollgate(address string) (*Tollgate, error) {
	// Without this it would wait for up to two minutes before it connects again.
	again := backoff.DefaultConfig
	again.MaxDelay = time.Second
	connection, err := grpc.Dial(address, grpc.WithInsecure(), grpc.WithConnectParams(grpc.ConnectParams{Backoff: again, MinConnectTimeout: time.Second}))
	if err != nil {
		return nil, err
	}
	t := &Tollgate{client: tollgatev1.NewDecisionServiceClient(connection), waiting: make(chan waiting, mostWaiting)}
	t.done.Add(1)
	go t.sendReports()
	return t, nil
}

// Check gives the answer, which may be a denial. Nil: there is none, and so no verdict.
func (t *Tollgate) Check(ctx context.Context, question *tollgatev1.CheckRequest) *tollgatev1.CheckResponse {
	// The same id both times: what was charged and not heard of is not charged again.
	question.OperationId = newID()
	for i := 0; i < 2; i++ {
		inTime, cancel := context.WithTimeout(ctx, checkTimeout)
		answer, err := t.client.Check(inTime, question)
		cancel()
		if err == nil {
			return answer
		}
		if code := status.Code(err); code != codes.Unavailable && code != codes.DeadlineExceeded {
			log.Printf("tollgate refuses the question: %v", err)
			return nil
		}
	}
	return nil
}

// Report says how a request ended. Nobody waits for it. What does not fit stays charged.
func (t *Tollgate) Report(outcome *tollgatev1.Outcome) {
	if outcome.GetReceipt() == "" {
		return
	}
	select {
	case t.waiting <- waiting{time.Now(), outcome}:
	default:
		atomic.AddInt64(&t.lost, 1)
	}
}

// Close sends what waits, for some seconds. Nothing may be reported after it.
func (t *Tollgate) Close() {
	close(t.waiting)
	sent := make(chan struct{})
	go func() { t.done.Wait(); close(sent) }()
	select {
	case <-sent:
	case <-time.After(lastReports):
	}
}

func (t *Tollgate) sendReports() {
	defer t.done.Done()
	for first := range t.waiting {
		batch := []waiting{first}
		for more := true; more && len(batch) < mostAtOnce; {
			select {
			case next, open := <-t.waiting:
				if more = open; open {
					batch = append(batch, next)
				}
			default:
				more = false
			}
		}
		t.send(batch)
	}
}

func (t *Tollgate) send(batch []waiting) {
	for pause := firstPause; len(batch) > 0; pause = shorter(pause*2, longestPause) {
		request := &tollgatev1.ReportRequest{}
		for _, one := range batch {
			request.Outcomes = append(request.Outcomes, one.outcome)
		}
		ctx, cancel := context.WithTimeout(context.Background(), reportTimeout)
		_, err := t.client.Report(ctx, request)
		cancel()
		if err == nil {
			return
		}
		log.Printf("reports are sent again: %v", err)
		time.Sleep(pause)
		fresh := batch[:0]
		for _, one := range batch {
			if time.Since(one.since) < receiptTTL {
				fresh = append(fresh, one)
			}
		}
		atomic.AddInt64(&t.lost, int64(len(batch)-len(fresh)))
		batch = fresh
	}
}

func shorter(one, other time.Duration) time.Duration {
	if one < other {
		return one
	}
	return other
}

func newID() string {
	var id [16]byte
	// Without an id a check is no less right: its repetition alone may charge twice.
	if _, err := rand.Read(id[:]); err != nil {
		return ""
	}
	return hex.EncodeToString(id[:])
}

type gateway struct {
	tollgate         *Tollgate
	target, upstream string
	failOpen         bool
}

func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer := g.tollgate.Check(r.Context(), &tollgatev1.CheckRequest{
		ApiKey: r.Header.Get("x-api-key"), Target: g.target, Method: r.Method, Path: r.URL.Path,
	})
	if answer == nil && !g.failOpen {
		http.Error(w, "cannot be decided", http.StatusServiceUnavailable)
		return
	}
	for _, header := range answer.GetHeaders() {
		w.Header().Add(header.Name, header.Value)
	}
	if answer != nil && answer.Verdict != tollgatev1.Verdict_ALLOW {
		http.Error(w, answer.Reason.String(), int(answer.HttpStatus))
		return
	}

	outcome := &tollgatev1.Outcome{Subject: &tollgatev1.Outcome_Receipt{Receipt: answer.GetReceipt()}}
	defer g.tollgate.Report(outcome)
	code, body, err := g.forward(r)
	switch {
	case r.Context().Err() != nil:
		outcome.Result = &tollgatev1.Outcome_Ending_{Ending: tollgatev1.Outcome_CALLER_GONE}
	case err != nil:
		outcome.Result = &tollgatev1.Outcome_Ending_{Ending: tollgatev1.Outcome_NO_RESPONSE}
		http.Error(w, "no response", http.StatusBadGateway)
	default:
		outcome.Result = &tollgatev1.Outcome_HttpStatus{HttpStatus: uint32(code)}
		w.WriteHeader(code)
		_, _ = w.Write(body)
	}
}

// forward gives the response of the upstream, whole.
func (g *gateway) forward(r *http.Request) (int, []byte, error) {
	ctx, cancel := context.WithTimeout(r.Context(), upstreamTimeout)
	defer cancel()
	asked, err := http.NewRequestWithContext(ctx, r.Method, "http://"+g.upstream+r.URL.RequestURI(), nil)
	if err != nil {
		return 0, nil, err
	}
	response, err := http.DefaultTransport.RoundTrip(asked)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, body, err
}

func main() {
	g := &gateway{}
	address := flag.String("tollgate", "", "HOST:PORT of tollgate")
	flag.StringVar(&g.target, "target", "", "the target that is served")
	flag.StringVar(&g.upstream, "upstream", "", "HOST:PORT to forward to")
	flag.BoolVar(&g.failOpen, "fail-open", false, "forward where tollgate does not answer")
	flag.Parse()
	var err error
	if g.tollgate, err = NewTollgate(*address); err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening", listener.Addr())

	server := &http.Server{Handler: g}
	stopped := make(chan struct{})
	go func() {
		told := make(chan os.Signal, 1)
		signal.Notify(told, syscall.SIGTERM)
		<-told
		_ = server.Shutdown(context.Background())
		close(stopped)
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
	<-stopped
	g.tollgate.Close()
}
