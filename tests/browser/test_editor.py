"""The graph editor as such: it opens without errors of ours, runs a graph from the button and stays on this machine."""

PICTURE = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 64, "height": 48, "batch_size": 1, "color": 0x336699},
        "_meta": {"title": "Blue"},
    },
    "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}, "_meta": {"title": "Shown"}},
}


def test_run_button_shows_a_picture(editor, server):
    editor.load_api(PICTURE, "blue")
    assert {entry["class_type"] for entry in editor.to_prompt().values()} == {"EmptyImage", "PreviewImage"}
    events = editor.run()
    assert [name for name, _ in events if name != "executing"][-1] == "execution_success"
    ((picture,),) = editor.pictures().values()
    assert server.view(picture).startswith(b"\x89PNG")
    assert editor.screenshot("plain").stat().st_size > 10_000
    assert not editor.outside
    assert not [error for error in editor.errors if "hspace" in error.lower()]
