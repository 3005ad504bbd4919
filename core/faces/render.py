import sys
sys.path.insert(0, "/work/shared/prototypes/faces")
import facegen as fg
def render(f, size=64, supersample=1, masks=False, device=None):
    if masks: return fg.render(f, size, supersample, True)
    return fg.render(f, size, supersample), {}
