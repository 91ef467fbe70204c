package admin

import (
	"fmt"
	"net/http"

	"github.com/ferrum-proxy/ferrum-proxy/dataplane/plan"
)

// maxServedQuery bounds the body of a plan.ServedQuery. A UID is 36 characters,
// in JSON 39.
const maxServedQuery = 64 * plan.MaxServedUIDs

// served answers the status writer, which is one of the replicas. It takes UIDs
// and gives numbers, so that 5,000 routes are 200 KiB to ask and some
// 40 KiB to answer.
func (s *Server) served(w http.ResponseWriter, r *http.Request) {
	var q plan.ServedQuery
	err := decodeBody(w, r, maxServedQuery, &q, `{"uids":["UID"]}`)
	if err == nil && len(q.UIDs) > plan.MaxServedUIDs {
		err = fmt.Errorf("%d routes are asked about: ask about %d at a time", len(q.UIDs), plan.MaxServedUIDs)
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	s.writeJSON(w, plan.ServedAnswer{Generations: s.config.Served(q.UIDs)})
}
