package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMedianIsTheMiddleOrTheMeanOfTwo(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{nil, 0}, {[]float64{7}, 7}, {[]float64{9, 1}, 5}, {[]float64{30, 1, 2}, 2}, {[]float64{4, 1, 3, 200}, 3.5},
	} {
		if got := median(c.values); got != c.want {
			t.Errorf("median(%v) = %v, want %v", c.values, got, c.want)
		}
	}
}

// threeRounds has one round in which the machine was slow for everyone.
func threeRounds() (scenario, []row) {
	sc := scenario{name: "a", about: "b & c", conns: 4, compare: cpuTime, most: map[string]float64{"nginx": 1, "haproxy": 0.7}}
	return sc, []row{
		{Proxy: ferrumName, Rounds: []sample{{CPU: 10, Rate: 1}, {CPU: 40, Rate: 3}, {CPU: 11, Rate: 2}}},
		{Proxy: "nginx", Version: "1.2.3", Rounds: []sample{{CPU: 20}, {CPU: 50}, {CPU: 10}}},
		{Proxy: "haproxy", Rounds: []sample{{CPU: 10}, {CPU: 40}, {CPU: 10}}},
		{Proxy: "other", Rounds: []sample{{CPU: 0}, {CPU: 20}, {CPU: 22}}},
	}
}

func TestRatiosAreMediansOverTheRounds(t *testing.T) {
	r := newResult(threeRounds())
	if m := r.Rows[0].Median; m.CPU != 11 || m.Rate != 2 {
		t.Errorf("medians %+v, want 11 us and 2 requests/s, each by itself", m)
	}
	want := []struct {
		to     string
		median float64
		judged
	}{{"nginx", 0.8, judged{1, "met"}}, {"haproxy", 1, judged{0.7, "missed"}}, {"other", 0.5, judged{}}}
	for i, w := range want {
		got := r.Ratios[i]
		if got.Of != ferrumName || got.To != w.to || got.Median != w.median || got.judged != w.judged {
			t.Errorf("got %+v, want %+v", got, w)
		}
	}
}

func TestSwapsAreComparedWithFerrumItself(t *testing.T) {
	r := newResult(scenario{swaps: true, compare: p99, most: map[string]float64{ferrumName: 1.2}}, []row{
		{Proxy: ferrumName, Rounds: []sample{{P99: 2, CPU: 9}}},
		{Proxy: swappedName, Rounds: []sample{{P99: 3, CPU: 9}}},
	})
	if len(r.Ratios) != 1 || r.Ratios[0].Of != swappedName || r.Ratios[0].To != ferrumName || r.Ratios[0].Median != 1.5 || r.Ratios[0].Verdict != "missed" {
		t.Errorf("got %+v, want 1.5 of %s to %s", r.Ratios, swappedName, ferrumName)
	}
}

func TestIdleMemoryIsBounded(t *testing.T) {
	sc := scenario{compare: idleMemory, atMost: 6}
	for kib, want := range map[float64]string{5.9: "met", 6.1: "missed"} {
		r := newResult(sc, []row{{Proxy: ferrumName, Rounds: []sample{{IdleMemory: kib}}}})
		if r.Bound == nil || r.Bound.Verdict != want || r.Bound.Median != kib {
			t.Errorf("%v KiB: %+v, want %s", kib, r.Bound, want)
		}
	}
}

func TestARetryIsBoundedByWhatARequestWithoutCosts(t *testing.T) {
	of := func(name string, cpu float64) result {
		return newResult(scenario{name: name, compare: cpuTime}, []row{{Proxy: ferrumName, Rounds: []sample{{CPU: cpu}}}})
	}
	sc := scenario{name: "retry", compare: cpuTime, over: "plain", atMost: 2.2}
	for cpu, want := range map[float64]string{22: "2.20 times what plain costs, <= 2.20 met", 23: "2.30 times what plain costs, <= 2.20 MISSED"} {
		r := of("retry", cpu)
		r.boundOver(sc, []result{of("other", 1), of("plain", 10)})
		if table := r.table(); !strings.Contains(table, want) {
			t.Errorf("%v us: %s\nwant %q", cpu, table, want)
		}
	}
	r := of("retry", 23)
	if r.boundOver(sc, nil); r.Bound != nil {
		t.Errorf("without the other scenario: %+v", r.Bound)
	}
}

func TestTableSaysWhatWasMissedAndWhatIsDoubtful(t *testing.T) {
	sc, rows := threeRounds()
	rows[1].Rounds[0].Others, rows[1].Rounds[1].Others = 0.5, 0.5
	rows[2].Rounds[0].Errors, rows[2].Rounds[1].Errors = 3, 5
	table := newResult(sc, rows).table()
	for _, want := range []string{"<= 1.00 met", "<= 0.70 MISSED", "nginx 1.2.3", "ferrum/it by CPU",
		"nginx: other processes took 50 % of the proxy's CPUs", "haproxy: 3 socket errors"} {
		if !strings.Contains(table, want) {
			t.Errorf("the table does not say %q:\n%s", want, table)
		}
	}
}

func TestFilesCanBeRead(t *testing.T) {
	r := &report{Machine: `"CPU" <1> & more`, Rounds: 3, Scenarios: []result{
		newResult(threeRounds()),
		newResult(scenario{name: "swaps", swaps: true, compare: p99}, []row{{Rounds: []sample{{}}}, {Rounds: []sample{{}}}}),
	}}
	dir := filepath.Join(t.TempDir(), "new")
	if err := r.write(dir); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "result.json"))
	if err != nil {
		t.Fatal(err)
	}
	var back report
	if err := json.Unmarshal(data, &back); err != nil || back.Scenarios[0].Ratios[0].Median != 0.8 || back.Machine != r.Machine {
		t.Errorf("result.json does not give back what was written: %v\n%s", err, data)
	}
	svg, err := os.ReadFile(filepath.Join(dir, "cpu.svg"))
	if err != nil {
		t.Fatal(err)
	}
	bars := 0
	for d := xml.NewDecoder(strings.NewReader(string(svg))); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("cpu.svg is no XML: %v\n%s", err, svg)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "rect" {
			bars++
		}
	}
	if bars != 1+4 { // the background and the four proxies of the first scenario
		t.Errorf("cpu.svg has %d rectangles, want 5:\n%s", bars, svg)
	}
}

func TestLongestBarIsTheMostExpensiveProxy(t *testing.T) {
	var out strings.Builder
	r := newResult(threeRounds())
	r.drawGroup(&out, 0)
	for _, want := range []string{`>nginx 1.2.3</text><rect x="150" y="50" width="520"`, `>haproxy</text><rect x="150" y="70" width="260"`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %s:\n%s", want, out.String())
		}
	}
}
