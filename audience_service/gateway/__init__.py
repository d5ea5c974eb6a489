"""The HTTP gateway: JSON over HTTP for the RPCs that the protos annotate with `google.api.http`.

It is a client of the service like any other. It converts requests and responses; authentication, tenancy and every
decision stay with the service.
"""
