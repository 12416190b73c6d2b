// Clips in the WebUI's results.
//
// The gallery of gradio and the WebUI's lightbox know pictures only: an MP4 or WebM file ends up in an <img> that shows
// nothing. Beside each such <img> this script puts a <video> that plays. The <img> stays in its place, out of sight,
// with the src that it had: selection, next/previous, keys and buttons read it and go on working. When gradio or the
// lightbox gives the <img> a picture, the <video> goes. GIF and WebP play in an <img> by themselves.
//
// Works with the DOM of gradio 3.41 (WebUI 1.10) and of 4.40; galleries that play videos themselves are left alone.
(() => {
    "use strict";

    if (window.animatediffClips) return;
    window.animatediffClips = true;

    const CLIP = /\.(mp4|webm)(?:[?#]|$)/i;
    const GALLERY = ".gradio-gallery, [id$=_gallery]";
    const CONTROLS = 72; // pixels at the lower edge of a <video> that its control bar may take
    const UNPLAYABLE = "This browser cannot play this clip";

    // The <img> is not `display: none`: the lightbox asks for its offsetParent to find out whether it is open.
    const STYLE = `
        [data-animatediff-clip] {
            visibility: hidden !important; pointer-events: none !important;
            position: absolute !important; width: 1px !important; height: 1px !important;
        }
        .animatediff-clip { display: block; width: 100%; height: 100%; object-fit: contain; }
        .thumbnail-item > .animatediff-clip { pointer-events: none; }
        .thumbnail-lg > .animatediff-clip { object-fit: var(--object-fit, cover); }
        .preview > .animatediff-clip { min-height: 0; height: calc(100% - 60px); cursor: pointer; }
        #lightboxModal > .animatediff-clip { margin: auto; width: auto; height: auto; min-width: min(320px, 100%); }
        #lightboxModal > .animatediff-clip.modalImageFullscreen { width: 100%; height: 100%; min-height: 0; }
        span.animatediff-clip {
            display: flex; align-items: center; justify-content: center; overflow: hidden;
            font-size: var(--text-sm, 12px); overflow-wrap: anywhere;
        }
        #lightboxModal > span.animatediff-clip { color: white; }
    `;

    const players = new Map(); // <img> -> {img, cover, video, note, src, large, seen, parked}
    const watched = new WeakSet();

    const app = () => (typeof gradioApp === "function" ? gradioApp() : document);
    const isClip = (src) => !!src && !src.startsWith("data:") && CLIP.test(src);
    const lightbox = () => document.getElementById("lightboxModal");
    const isOpen = (modal) => !!modal && getComputedStyle(modal).display !== "none";

    const onScreen = new IntersectionObserver((entries) => {
        for (const entry of entries) {
            const player = [...players.values()].find((one) => one.video === entry.target);
            if (player) {
                player.seen = entry.isIntersecting;
                settle(player);
            }
        }
    });

    // ---- one player -------------------------------------------------------------------------------------------------

    function wanted(img) {
        if (!img.isConnected || !isClip(img.getAttribute("src"))) return false;
        return img.id !== "modalImage" || isOpen(lightbox());
    }

    /** Put a <video> beside an <img> that has a clip, and take it away from one that has a picture. */
    function sync(img) {
        const player = players.get(img);
        if (!wanted(img)) {
            if (player) remove(player);
        } else if (!player) {
            add(img);
        } else if (player.src !== img.src) {
            load(player);
        }
    }

    function add(img) {
        const inLightbox = img.id === "modalImage";
        const large = inLightbox || !img.closest(".thumbnail-item");
        const cover = img.closest(".image-button") || img; // gradio 4 has a button around the selected picture
        const video = document.createElement("video");
        video.className = "animatediff-clip";
        video.muted = video.defaultMuted = video.loop = video.autoplay = video.playsInline = true;
        video.controls = large;
        video.preload = "auto";
        if (!large) video.tabIndex = -1;
        const player = {img, cover, video, note: null, src: "", large, seen: true, parked: false};
        video.addEventListener("error", () => fail(player));
        if (large) {
            video.addEventListener("click", (event) => pass(player, event));
            video.addEventListener("mousedown", (event) => event.button === 1 && pass(player, event));
        }
        players.set(img, player);
        cover.setAttribute("data-animatediff-clip", "");
        cover.after(video);
        onScreen.observe(video);
        load(player);
    }

    function load(player) {
        const {img, cover, video} = player;
        player.note?.remove();
        player.note = null;
        player.parked = false;
        player.src = img.src;
        video.style.display = "";
        if (player.large && cover.style.height) video.style.height = cover.style.height; // leaves room for a caption
        video.title = img.title;
        video.setAttribute("aria-label", img.alt || fileName(img.src));
        video.src = img.src;
        play(video);
        settle(player);
    }

    function remove(player) {
        const {img, cover, video, note} = player;
        players.delete(img);
        onScreen.unobserve(video);
        note?.remove();
        video.remove();
        video.pause();
        video.removeAttribute("src");
        video.load(); // frees the decoder now, not when memory is collected
        cover.removeAttribute("data-animatediff-clip");
    }

    /** Say that a clip cannot be played (no decoder, file gone) where there would be nothing at all. */
    function fail(player) {
        const {video, src, large} = player;
        if (!video.getAttribute("src") || player.note) return;
        player.note = document.createElement("span");
        player.note.className = video.className;
        player.note.style.height = video.style.height;
        player.note.title = fileName(src);
        player.note.textContent = large ? UNPLAYABLE : CLIP.exec(src)[1].toUpperCase();
        video.style.display = "none";
        video.after(player.note);
    }

    /** Do for a click on the picture what the host does for a picture; the control bar keeps its own clicks. */
    function pass(player, event) {
        const {img, video} = player;
        const bar = Math.min(CONTROLS, video.clientHeight / 3);
        event.stopPropagation();
        if (event.offsetY > video.clientHeight - bar) return;
        event.preventDefault(); // or a click would also stop the clip
        // gradio compares clientX with half the width of the <img>, which has none now.
        const clientX = event.offsetX < video.clientWidth / 2 ? -1 : 1e6;
        img.dispatchEvent(new MouseEvent(event.type, {
            bubbles: true, cancelable: true, view: window, button: event.button, clientX, clientY: event.clientY,
        }));
    }

    function play(video) {
        video.play()?.catch(() => {}); // refused or overtaken by the next src: the controls are still there
    }

    /** Let nothing play that nobody sees: scrolled away, in another tab, or under the preview or the lightbox. */
    function settle(player) {
        const {img, video} = player;
        const inLightbox = img.id === "modalImage";
        const under = !inLightbox && (isOpen(lightbox())
            || (!img.closest(".preview") && !!img.closest(GALLERY)?.querySelector(".preview")));
        if (under || !player.seen) {
            if (!video.paused) {
                video.pause();
                player.parked = true;
            }
        } else if (player.parked) {
            player.parked = false;
            play(video);
        }
    }

    function fileName(src) {
        const name = src.split(/[?#]/)[0].split("/").pop().replace(/^file=/, "");
        try {
            return decodeURIComponent(name);
        } catch {
            return name;
        }
    }

    // ---- when to look -----------------------------------------------------------------------------------------------

    const galleries = new MutationObserver((records) => {
        let moved = false;
        for (const record of records) {
            if (record.type === "attributes") {
                if (record.target.tagName === "IMG") sync(record.target);
                continue;
            }
            moved = true;
            for (const node of record.addedNodes) {
                if (node.nodeType !== Node.ELEMENT_NODE) continue;
                if (node.tagName === "IMG") sync(node);
                else if (node.tagName !== "VIDEO") node.querySelectorAll("img").forEach(sync);
            }
        }
        if (moved) tidy();
    });

    const modals = new MutationObserver(() => {
        const img = document.getElementById("modalImage");
        if (!img) return;
        sync(img);
        const zoomed = img.classList.contains("modalImageFullscreen");
        players.get(img)?.video.classList.toggle("modalImageFullscreen", zoomed);
        tidy();
    });

    /** Drop players whose <img> has left the page; let the others play or rest. */
    function tidy() {
        for (const player of [...players.values()]) {
            if (player.img.isConnected) settle(player);
            else remove(player);
        }
    }

    /** Find galleries and the lightbox, and watch each once. Cheap: the host calls this after every change. */
    function scan() {
        for (const gallery of app().querySelectorAll(GALLERY)) {
            if (watched.has(gallery)) continue;
            watched.add(gallery);
            galleries.observe(gallery, {childList: true, subtree: true, attributes: true, attributeFilter: ["src"]});
            gallery.querySelectorAll("img").forEach(sync);
        }
        const modal = lightbox();
        const img = document.getElementById("modalImage");
        if (modal && img && !watched.has(modal)) {
            watched.add(modal);
            modals.observe(modal, {attributes: true, attributeFilter: ["style"]});
            modals.observe(img, {attributes: true, attributeFilter: ["src", "class"]});
        }
        if (!watched.has(app())) {
            watched.add(app());
            const style = document.createElement("style");
            style.textContent = STYLE;
            (app() instanceof ShadowRoot ? app() : document.head).append(style);
        }
    }

    if (typeof onAfterUiUpdate === "function") {
        onAfterUiUpdate(scan);
    } else if (typeof onUiUpdate === "function") {
        onUiUpdate(scan);
    } else {
        let timer = null;
        const later = () => {
            timer ??= setTimeout(() => {
                timer = null;
                scan();
            }, 200);
        };
        new MutationObserver(later).observe(document.documentElement, {childList: true, subtree: true});
        later();
    }
})();
