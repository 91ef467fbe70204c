package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// metric is a value as read once. The client library's constant metrics do the
// same, at four times the allocations; a scrape of 10,000 rules in use has
// 140,000 metrics.
type metric struct {
	desc   *prometheus.Desc
	labels []*dto.LabelPair // sorted by name

	// One of them is set.
	counter   *dto.Counter
	gauge     *dto.Gauge
	histogram *dto.Histogram
}

// Desc implements prometheus.Metric.
func (m *metric) Desc() *prometheus.Desc { return m.desc }

// Write implements prometheus.Metric.
func (m *metric) Write(out *dto.Metric) error {
	out.Label, out.Counter, out.Gauge, out.Histogram = m.labels, m.counter, m.gauge, m.histogram
	return nil
}

// counter returns n as a metric. The labels come in the order of their names.
func counter(d *prometheus.Desc, n uint64, labels ...*dto.LabelPair) prometheus.Metric {
	return &metric{desc: d, labels: labels, counter: &dto.Counter{Value: new(float64(n))}}
}

// gauge returns v as a metric. The labels come in the order of their names.
func gauge(d *prometheus.Desc, v float64, labels ...*dto.LabelPair) prometheus.Metric {
	return &metric{desc: d, labels: labels, gauge: &dto.Gauge{Value: &v}}
}

func label(name, value string) *dto.LabelPair { return &dto.LabelPair{Name: &name, Value: &value} }

// classLabels are the labels code_class, by status / 100.
var classLabels = func() (l [classCount]*dto.LabelPair) {
	for c, name := range classNames {
		l[c] = label("code_class", name)
	}
	return l
}()

// bucketSeconds are the bucketBounds in seconds.
var bucketSeconds = func() (s [len(bucketBounds)]float64) {
	for i, b := range bucketBounds {
		s[i] = b.Seconds()
	}
	return s
}()

// metric returns the total as a metric: the number of observations, their sum
// in seconds, and for every bound the number of observations up to it.
func (t *histogramTotal) metric(d *prometheus.Desc, labels []*dto.LabelPair) prometheus.Metric {
	// One block of memory instead of three pieces a bucket.
	block := new(struct {
		buckets    [len(bucketBounds)]dto.Bucket
		pointers   [len(bucketBounds)]*dto.Bucket
		cumulative [bucketCount]uint64
		sum        float64
	})
	count := uint64(0)
	for i, n := range t.buckets {
		count += n
		block.cumulative[i] = count
		if i < len(bucketBounds) {
			b := &block.buckets[i]
			b.UpperBound, b.CumulativeCount = &bucketSeconds[i], &block.cumulative[i]
			block.pointers[i] = b
		}
	}
	block.sum = float64(t.sum) / float64(time.Second)
	return &metric{desc: d, labels: labels, histogram: &dto.Histogram{
		SampleCount: &block.cumulative[bucketCount-1],
		SampleSum:   &block.sum,
		Bucket:      block.pointers[:],
	}}
}
