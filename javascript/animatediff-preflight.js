// What a run will do depends on the checkpoint too. The lines under the AnimateDiff controls are made anew, by the
// hidden button of each tab, once the page knows the host's options and whenever those have changed (after a
// checkpoint is loaded, for one).
(function() {
    let due = null;

    onOptionsChanged(function() {
        clearTimeout(due); // several changes in a row are one
        due = setTimeout(function() {
            for (const tab of ["txt2img", "img2img"]) {
                gradioApp().getElementById(`${tab}-ad-update`)?.click();
            }
        }, 300);
    });
})();
