"""How a dead rank is noticed: signs of life, the lifeline that carries them, and the last words."""
