"""The EC2 side of local AWS: one process with two loopback servers.

moto answers EC2, Auto Scaling and ELBv2; this package adds the behaviour that AWS has and moto lacks. A forwarder
passes everything else on to MiniStack. Both servers record each call, and fail calls on request.
"""
