"""The EC2 side of local AWS: one process with two loopback servers.

moto answers EC2, Auto Scaling, ELBv2, with the behaviour that AWS has and moto has not added in this package;
a forwarder passes everything else on to MiniStack. Both record each call and can be told to fail.
"""
