import sys
sys.path.insert(0, "/work/shared/prototypes/faces")
import facegen as fg
def render(f, size=64, ss=1, device=None):
    return fg.render(f, size, ss), {}
