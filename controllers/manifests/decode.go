package manifests

import (
	"encoding/json"
	"errors"

	corev1 "k8s.io/api/core/v1"
	metav1validation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	kjson "sigs.k8s.io/json"

	"github.com/ferrum-proxy/ferrum-proxy/api/v1alpha1"
)

// object is a valid object and where it is.
type object struct {
	value metav1.Object
	kind  string
	line  int
}

func (o object) String() string {
	return objectWords(o.kind, o.value.GetNamespace(), o.value.GetName())
}

// objectWords is "Kind namespace/name", "Kind name", or "Kind": what is known.
func objectWords(kind, namespace, name string) string {
	switch {
	case kind == "" || name == "":
		return kind
	case namespace == "":
		return kind + " " + name
	default:
		return kind + " " + namespace + "/" + name
	}
}

// decoder makes an object of a kind from its generic form, which it may change,
// and says what is wrong with it.
type decoder struct {
	namespaced bool
	decode     func(generic map[string]any) (metav1.Object, []*field.Error)
}

// decoders are the kinds that are known.
var decoders = map[schema.GroupVersionKind]decoder{
	{Group: v1alpha1.GroupName, Version: "v1alpha1", Kind: "ProxyRoute"}:    {true, decodeCustom[v1alpha1.ProxyRoute]},
	{Group: v1alpha1.GroupName, Version: "v1alpha1", Kind: "BackendPolicy"}: {true, decodeCustom[v1alpha1.BackendPolicy]},
	{Group: v1alpha1.GroupName, Version: "v1alpha1", Kind: "ProxyClass"}:    {false, decodeCustom[v1alpha1.ProxyClass]},

	{Version: "v1", Kind: "Service"}:   {true, decodeCore(true, metav1validation.NameIsDNSLabel, checkService)},
	{Version: "v1", Kind: "Secret"}:    {true, decodeCore[corev1.Secret](true, metav1validation.NameIsDNSSubdomain, nil)},
	{Version: "v1", Kind: "Namespace"}: {false, decodeCore(false, metav1validation.NameIsDNSLabel, labelNamespace)},
	{Group: "discovery.k8s.io", Version: "v1", Kind: "EndpointSlice"}: {true,
		decodeCore(true, metav1validation.NameIsDNSSubdomain, checkEndpointSlice)},
	// The two versions of ReferenceGrant have the same fields.
	{Group: gatewayv1.GroupName, Version: "v1", Kind: "ReferenceGrant"}:      {true, decodeReferenceGrant},
	{Group: gatewayv1.GroupName, Version: "v1beta1", Kind: "ReferenceGrant"}: {true, decodeReferenceGrant},
}

var decodeReferenceGrant = decodeCore(true, metav1validation.NameIsDNSSubdomain, checkReferenceGrant)

// labelNamespace does what the API server does to every Namespace.
func labelNamespace(n *corev1.Namespace) field.ErrorList {
	if n.Labels == nil {
		n.Labels = make(map[string]string)
	}
	n.Labels[corev1.LabelMetadataName] = n.Name
	return nil
}

// decodeCustom decodes one of our kinds.
func decodeCustom[T any, P interface {
	*T
	metav1.Object
}](generic map[string]any) (metav1.Object, []*field.Error) {
	kinds, err := customKinds()
	if err != nil {
		return nil, []*field.Error{field.InternalError(nil, err)}
	}
	kind := kinds[typeOf(generic)]
	if kind == nil {
		return nil, []*field.Error{field.InternalError(nil, errors.New("the schema of the kind is missing from this build"))}
	}
	if errs := kind.admit(generic); len(errs) > 0 {
		return nil, errs
	}
	o := P(new(T))
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(generic, o); err != nil {
		return nil, []*field.Error{field.Invalid(nil, field.OmitValueType{}, err.Error())}
	}
	return o, nil
}

// decodeCore decodes a kind of Kubernetes strictly and checks it.
func decodeCore[T any, P interface {
	*T
	metav1.Object
}](namespaced bool, name metav1validation.ValidateNameFunc, check func(P) field.ErrorList) func(map[string]any) (metav1.Object, []*field.Error) {
	return func(generic map[string]any) (metav1.Object, []*field.Error) {
		raw, err := json.Marshal(generic)
		if err != nil {
			return nil, []*field.Error{field.Invalid(nil, field.OmitValueType{}, err.Error())}
		}
		o := P(new(T))
		strict, err := kjson.UnmarshalStrict(raw, o)
		if err != nil {
			return nil, []*field.Error{decodingError(err)}
		}
		var errs []*field.Error
		for _, e := range strict {
			errs = append(errs, unknownField(fieldPath(e)))
		}
		errs = append(errs, validateMeta(metaOf(o), namespaced, name)...)
		if check != nil {
			errs = append(errs, check(o)...)
		}
		return o, errs
	}
}

// decodingError gives an error of encoding/json a path, so that it has a line.
func decodingError(err error) *field.Error {
	path := ""
	if te, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		path = te.Field
	}
	return &field.Error{Type: field.ErrorTypeTypeInvalid, Field: path, BadValue: field.OmitValueType{}, Detail: err.Error()}
}

func metaOf(o metav1.Object) *metav1.ObjectMeta {
	if a, ok := o.(metav1.ObjectMetaAccessor); ok {
		if m, ok := a.GetObjectMeta().(*metav1.ObjectMeta); ok {
			return m
		}
	}
	return &metav1.ObjectMeta{}
}

// typeOf returns the group, version and kind that an object claims.
func typeOf(generic map[string]any) schema.GroupVersionKind {
	apiVersion, _ := generic["apiVersion"].(string)
	kind, _ := generic["kind"].(string)
	return schema.FromAPIVersionAndKind(apiVersion, kind)
}
