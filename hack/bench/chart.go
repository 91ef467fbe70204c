package main

import (
	"encoding/xml"
	"fmt"
	"strings"
)

// Sizes of the chart, in pixels.
const (
	chartWidth  = 760
	labelWidth  = 150
	valueWidth  = 90
	barHeight   = 16
	barStep     = 20
	groupHeader = 30
	chartHeader = 50
)

// chart draws what the scenarios compared by CPU time or memory found: a group of
// bars for each, to a scale of its own, because what is compared is proxies.
func (r *report) chart() string {
	var out strings.Builder
	y := chartHeader
	for _, s := range r.Scenarios {
		if s.Compare == p99 || len(s.Rows) == 0 {
			continue
		}
		y = s.drawGroup(&out, y)
	}
	height := y + 10
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12" fill="#1f2328">
<rect width="100%%" height="100%%" fill="#ffffff"/>
<text x="16" y="24" font-size="16" font-weight="bold">What a request costs the proxy (shorter is better)</text>
<text x="16" y="42" fill="#59636e">%s; medians of %d rounds</text>
%s</svg>
`, chartWidth, height, chartWidth, height, escape(r.Machine), r.Rounds, out.String())
}

// drawGroup draws a scenario from y on and returns where the next one begins.
func (r result) drawGroup(out *strings.Builder, y int) int {
	fmt.Fprintf(out, `<text x="16" y="%d" font-weight="bold">%s<tspan font-weight="normal" fill="#59636e"> %s; %s</tspan></text>`+"\n",
		y+20, escape(r.Name), escape(r.About), escape(string(r.Compare)))
	y += groupHeader
	longest := 0.0
	for _, row := range r.Rows {
		longest = max(longest, row.Median.of(r.Compare))
	}
	for _, row := range r.Rows {
		value := row.Median.of(r.Compare)
		length := max(1, int(divide(value, longest)*(chartWidth-labelWidth-valueWidth)))
		color := onOff(row.Proxy == ferrumName, "#b7410e", "#8c959f")
		fmt.Fprintf(out, `<text x="%d" y="%d" text-anchor="end">%s</text><rect x="%d" y="%d" width="%d" height="%d" fill="%s"/><text x="%d" y="%d">%.1f</text>`+"\n",
			labelWidth-8, y+12, escape(strings.TrimSpace(row.Proxy+" "+strings.TrimPrefix(row.Version, "go"))),
			labelWidth, y, length, barHeight, color, labelWidth+length+6, y+12, value)
		y += barStep
	}
	return y + 8
}

// escape makes text safe inside XML.
func escape(s string) string {
	var out strings.Builder
	_ = xml.EscapeText(&out, []byte(s)) // a Builder takes everything
	return out.String()
}
