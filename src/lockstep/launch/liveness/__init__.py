"""How a dead rank is noticed: heartbeats, the lifeline that carries them, and the last words."""
