"""`deft demo`: the whole job through the service, on real preference data and a small real model."""
