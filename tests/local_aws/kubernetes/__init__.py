"""A real Kubernetes control plane as part of local AWS: its binaries, its processes, and the tests' access to it.

kube-apiserver, its controllers, scheduler and etcd are the real ones. The nodes are simulated: kwok plays the kubelets,
the EC2 endpoint plays the cloud (see `endpoint/nodes.py`) and EKS's token authenticator (see `endpoint/eks.py`).
"""
