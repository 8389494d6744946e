"""From maps to pseudo masks: a refiner makes better maps of maps, or label maps of them; one file each, and what they share."""
