// The buttons under the gallery that make something of the selected clip.
//
// gradio calls this before a button's request: it starts the host's progress bar and says which clip is selected.
(function() {
    "use strict";

    const PAUSE = 200, PATIENCE = 50; // ms between looks for the result, and how many
    const CONTROLS = '[id$="-ad-refine-part"], [id$="-ad-more"]';
    let due;

    const thumbnails = (tab) => Array.from(
        gradioApp().getElementById(`${tab}_gallery`)?.querySelectorAll(".thumbnail-item.thumbnail-small") || []);

    /** Select the result, behind the clip at `place`, when the gallery has it. */
    function select(tab, place, before, looks = PATIENCE) {
        const shown = thumbnails(tab);
        if (shown.length > before) shown[place + 1]?.click();
        else if (looks) setTimeout(() => select(tab, place, before, looks - 1), PAUSE);
    }

    const selected = (tab) => thumbnails(tab).findIndex((item) => item.classList.contains("selected"));

    /** The first `count` values of an event, with the number of the selected clip filled in. */
    window.animatediffSelected = async function(tab, count, values) {
        await new Promise((done) => setTimeout(done, PAUSE)); // the selection is shown after the event
        const sent = Array.from(values).slice(0, count);
        sent[1] = String(selected(tab));
        return sent;
    };

    // gradio says nothing of a slider's number that is typed: a hidden button renews the lines.
    document.addEventListener("input", (event) => {
        const part = event.target.closest?.(CONTROLS);
        if (!part) return;
        clearTimeout(due);
        due = setTimeout(() => gradioApp().getElementById(`${part.id.split("-")[0]}-ad-finished-renew`)?.click(), PAUSE);
    }, true);

    /** The first `count` values of the event, with the task's id and the number of the selected clip filled in. */
    window.animatediffFinished = function(tab, count, values) {
        const sent = Array.from(values).slice(0, count);
        const gallery = gradioApp().getElementById(`${tab}_gallery`);
        const place = selected(tab);
        const before = thumbnails(tab).length;
        sent[0] = "";
        if (typeof requestProgress === "function" && typeof randomId === "function") {
            sent[0] = randomId();
            showSubmitButtons(tab, false);
            localSet(`${tab}_task_id`, sent[0]);
            requestProgress(sent[0], gradioApp().getElementById(`${tab}_gallery_container`), gallery, () => {
                showSubmitButtons(tab, true);
                localRemove(`${tab}_task_id`);
                showRestoreProgressButton(tab, false);
                select(tab, Math.max(place, 0), before);
            });
        }
        sent[2] = String(place);
        return sent;
    };
})();
