package dataplane_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane"
	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

func TestServedIsWhatThePlanInForceSaysAndNotThePlanThatWasRefused(t *testing.T) {
	routes := func(generation int64) plan.Plan {
		rules := []plan.Rule{{Name: "a", Matches: []plan.Match{{Path: plan.PathMatch{Type: plan.PathPrefix, Value: "/"}}}}}
		return plan.Plan{Routes: []*plan.Route{
			{Namespace: "shop", Name: "a", UID: "1", Generation: generation, Hostnames: []string{"a.example.com"}, Rules: rules},
			{Namespace: "shop", Name: "b", Hostnames: []string{"b.example.com"}, Rules: rules}, // from a file
		}}
	}
	e := dataplane.New(dataplane.Config{})
	asked := []string{"2", "1", ""}
	if got := e.Served(asked); !slices.Equal(got, []int64{0, 0, 0}) {
		t.Errorf("before there is a table: %v", got)
	}
	for _, generation := range []int64{3, 4} {
		if err := e.Apply(routes(generation)); err != nil {
			t.Fatal(err)
		}
		if got := e.Served(asked); !slices.Equal(got, []int64{0, generation, 0}) {
			t.Errorf("with generation %d: %v", generation, got)
		}
	}
	bad := routes(5)
	bad.Routes[0].Rules[0].Matches[0].Path = plan.PathMatch{Type: plan.PathRegex, Value: "("}
	if err := e.Apply(bad); err == nil {
		t.Fatal("the plan was taken")
	}
	if got := e.Served(asked); !slices.Equal(got, []int64{0, 4, 0}) {
		t.Errorf("after a plan that was refused: %v", got)
	}
	text, err := json.Marshal(e.Routes())
	if err != nil || !strings.Contains(string(text), `"uid":"1","generation":4`) {
		t.Errorf("/debug/routes shows %s, %v", text, err)
	}
}
