package controllers

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
	"github.com/ferrum-proxy/ferrum-proxy/controllers/translate"
)

func accepted(message string) translate.Condition {
	return translate.Condition{Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonAccepted, Message: message}
}

func TestAStatusIsWrittenOnlyOnDifference(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := verdict{version: version{generation: 1}, conditions: []translate.Condition{accepted("a")}}
		first, changed := merge(nil, v)
		if !changed || len(first) != 1 || first[0].ObservedGeneration != 1 {
			t.Fatalf("first merge %+v, changed %t", first, changed)
		}
		start := first[0].LastTransitionTime
		_ = wait(t.Context(), time.Hour)

		if _, changed := merge(first, v); changed {
			t.Error("the same verdict is a difference")
		}
		v.generation = 2
		second, changed := merge(first, v)
		if !changed || second[0].ObservedGeneration != 2 {
			t.Error("a new generation is no difference")
		}
		v.conditions = []translate.Condition{accepted("b")}
		third, changed := merge(second, v)
		if !changed || third[0].Message != "b" {
			t.Error("a new message is no difference")
		}
		if !third[0].LastTransitionTime.Equal(&start) {
			t.Errorf("lastTransitionTime moved to %v without a transition", third[0].LastTransitionTime)
		}
		v.conditions[0].Status = metav1.ConditionFalse
		fourth, _ := merge(third, v)
		if got := fourth[0].LastTransitionTime.Sub(start.Time); got != time.Hour {
			t.Errorf("lastTransitionTime moved by %v at a transition an hour later", got)
		}
		if first[0].Message != "a" || first[0].ObservedGeneration != 1 {
			t.Error("merge has changed its input")
		}
	})
}

func TestConditionsOfOthersStayAndOurStaleOnesGo(t *testing.T) {
	current := []metav1.Condition{
		{Type: "example.com/Audited", Status: metav1.ConditionTrue, Reason: "Done"},
		{Type: v1alpha1.ConditionResolvedRefs, Status: metav1.ConditionTrue, Reason: "ResolvedRefs"},
	}
	next, changed := merge(current, verdict{conditions: []translate.Condition{accepted("")}})
	if !changed {
		t.Error("no difference")
	}
	var got []string
	for _, c := range next {
		got = append(got, c.Type)
	}
	if want := []string{"example.com/Audited", v1alpha1.ConditionAccepted}; !slices.Equal(got, want) {
		t.Errorf("conditions %v, want %v", got, want)
	}
	if _, changed := merge(next, verdict{conditions: []translate.Condition{accepted("")}}); changed {
		t.Error("a condition of others is a difference")
	}
	next = append(next, metav1.Condition{Type: v1alpha1.ConditionConflicted, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonMatchTaken})
	if _, changed := merge(next, verdict{conditions: []translate.Condition{accepted("")}}); !changed {
		t.Error("a condition of ours that has gone is no difference")
	}
}

func TestProgrammedSaysWhatThePlanInForceServes(t *testing.T) {
	name := types.NamespacedName{Namespace: "shop", Name: "web"}
	refused := errors.New("two pools have the same key")
	for what, c := range map[string]struct {
		served  bool
		held    []string
		applied version // in the plan in force
		refused error
		status  metav1.ConditionStatus
		reason  string
	}{
		"served":                              {true, nil, version{"1", 3}, nil, metav1.ConditionTrue, v1alpha1.ReasonProgrammed},
		"not served":                          {false, nil, version{}, nil, metav1.ConditionFalse, v1alpha1.ReasonInvalid},
		"refused, new":                        {true, nil, version{}, refused, metav1.ConditionFalse, v1alpha1.ReasonPending},
		"refused, edited":                     {true, nil, version{"1", 2}, refused, metav1.ConditionFalse, v1alpha1.ReasonPending},
		"refused, made anew":                  {true, nil, version{"0", 3}, refused, metav1.ConditionFalse, v1alpha1.ReasonPending},
		"refused because of another":          {true, nil, version{"1", 3}, refused, metav1.ConditionTrue, v1alpha1.ReasonProgrammed},
		"refused, and not served in any case": {false, nil, version{}, refused, metav1.ConditionFalse, v1alpha1.ReasonPending},
		"served as it was last good":          {true, []string{"a"}, version{"1", 3}, nil, metav1.ConditionFalse, v1alpha1.ReasonUsingLastKnownGood},
	} {
		t.Run(what, func(t *testing.T) {
			s := translate.Snapshot{Routes: []*v1alpha1.ProxyRoute{testRoute()}}
			v := translate.Verdicts{Routes: map[types.NamespacedName]translate.RouteVerdict{name: {
				Verdict: translate.Verdict{Generation: 3, Conditions: []translate.Condition{accepted("")}}, Served: c.served, Held: c.held}}}
			got := judge(s, translate.Result{Verdicts: v}, map[types.NamespacedName]version{name: c.applied}, c.refused)[objectKey{kindRoute, name}]
			if len(got.conditions) != 2 {
				t.Fatalf("conditions %v, want Accepted and Programmed", got.conditions)
			}
			p := got.conditions[1]
			if p.Type != v1alpha1.ConditionProgrammed || p.Status != c.status || p.Reason != c.reason {
				t.Errorf("%s=%s/%s, want Programmed=%s/%s", p.Type, p.Status, p.Reason, c.status, c.reason)
			}
			if c.reason == v1alpha1.ReasonPending && !strings.Contains(p.Message, refused.Error()) {
				t.Errorf("the message %q does not say why", p.Message)
			}
		})
	}
}

func TestMessagesAreCutToWhatTheAPIServerAccepts(t *testing.T) {
	long := strings.Repeat("ü", maxMessage)
	in := []translate.Condition{accepted("short"), accepted(long)}
	out := bounded(in)
	if out[0].Message != "short" || in[1].Message != long {
		t.Error("bounded has changed what it should not")
	}
	if got := out[1].Message; len(got) > maxMessage || !utf8.ValidString(got) || !strings.HasSuffix(got, " ...") {
		t.Errorf("cut to %d bytes, valid %t", len(got), utf8.ValidString(got))
	}
	if c := programmed(translate.RouteVerdict{Served: true}, false, errors.New(long)); len(c.Message) > maxMessage {
		t.Errorf("Programmed has a message of %d bytes", len(c.Message))
	}
	if c, _ := merge(nil, verdict{conditions: out}); meta.FindStatusCondition(c, v1alpha1.ConditionAccepted) == nil {
		t.Error("no condition")
	}
}
